"""Scores: what each metric measures, one file per family; `catalog.py` lists them all."""
