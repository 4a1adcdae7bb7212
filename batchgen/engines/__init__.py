"""Engines: requests in, completions out. `contract.py` is the contract, `registry.py` lists the members."""
