"""Checks before a run: input, disk space, the plan."""
