"""Meta-steps and meta-tests in C++, for what is computed most: gradient steps of small networks on a CPU."""
