"""What a run needs in memory, estimated from its config before anything is allocated, and what is free."""
