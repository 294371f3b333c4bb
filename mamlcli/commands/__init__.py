"""One file for each command, which wires the rooms and returns a result; only the command line imports them."""
