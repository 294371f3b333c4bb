"""One training under way: its folder, its state, what it logs and saves, and how it ends."""
