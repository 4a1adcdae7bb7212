"""The same engine in several processes, one per GPU."""
