"""Engines: requests in, completions out. `contract.py` is the contract, `open.py` the door."""
