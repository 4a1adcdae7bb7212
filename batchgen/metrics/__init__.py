"""Metrics: each file has the options, the computation and the definition of one family; `registry.py` lists them."""
