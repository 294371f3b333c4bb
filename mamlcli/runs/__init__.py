"""The run folder: config, provenance, metrics, checkpoints, tables and figures on the disk."""
