"""One file for each command: it wires the rooms and returns a result; it never prints."""
