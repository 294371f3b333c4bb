"""Runs beside each other on the same meta-test tasks: who takes part, what is alike, what differs, what it costs."""
