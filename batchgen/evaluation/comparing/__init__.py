"""Paired comparison of two scored runs."""
