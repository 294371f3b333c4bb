"""Ways to learn, one file each: what adapts, and how the meta-gradient through it is found."""
