"""A matrix: keys with several values each, whose combinations are runs of their own."""
