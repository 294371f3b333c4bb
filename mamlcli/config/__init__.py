"""The experiment as a config: its sections, YAML with places, overrides, and what may change when. Loads no torch."""
