"""The story of a run: setup, generation, publication. Read `work.py` first."""
