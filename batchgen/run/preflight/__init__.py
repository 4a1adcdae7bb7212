"""Checks before a run: the input, and space on the disk."""
