"""Engines: requests in, completions out. `contract.py` is the contract, `engine_registry.py` lists the members."""
