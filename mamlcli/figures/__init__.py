"""Rows of a table to matplotlib figures; no pyplot, no global state, no files."""
