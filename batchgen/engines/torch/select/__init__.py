"""Choice of the tier: parity probes and a cache of their results."""
