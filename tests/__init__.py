"""Tests: expected values come from closed forms, loops written out, finite differences, torch.nn, SciPy."""
