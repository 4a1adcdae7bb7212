"""Runs of rows that a Python program has in memory."""
