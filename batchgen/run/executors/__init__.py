"""Executors: what makes the parts of a run. `executor.py` describes them; each other file is one."""
