"""What computes a meta-update, chosen once: the kernel in C++, low-rank updates, one compiled graph, or plain torch."""
