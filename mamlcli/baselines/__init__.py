"""What a method must beat: what is said of the same query samples without meta-learning, or without a model."""
