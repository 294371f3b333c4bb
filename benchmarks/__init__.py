"""This project beside its peers, on the same experiment and the same machine: `python -m benchmarks`."""
