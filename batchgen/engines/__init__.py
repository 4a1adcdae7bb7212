"""Engines: requests in, completions out. `base.py` is the contract, `open.py` the door."""
