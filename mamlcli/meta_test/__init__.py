"""The meta-test: fixed tasks, losses after 0 to N inner steps, their statistics and figures."""
