"""A whole meta-update in C++, for the case that is computed most: MAML of small ReLU networks on a CPU, with Adam."""
