"""One file for each command: its options, and a body that calls it.

Torch and the experiments are imported inside the bodies, once the config is known to be good: so `maml --help` and the
answer to a wrong config stay fast.
"""
