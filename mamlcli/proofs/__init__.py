"""Meta-gradients as a textbook writes them, differences, and the checks that compare."""
