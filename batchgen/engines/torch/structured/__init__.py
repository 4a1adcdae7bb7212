"""Masks of the rows that have a grammar."""
