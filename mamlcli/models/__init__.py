"""What a model is, one file each."""
