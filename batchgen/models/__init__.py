"""Where a model comes from and what it is: found, described and checked without loading its weights."""
