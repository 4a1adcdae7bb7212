"""Weights in memory: read without a second copy, and freed where a packed copy takes their place."""
