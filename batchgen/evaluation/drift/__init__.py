"""Drift: whether the answers of a run are distributed as those of an earlier one."""
