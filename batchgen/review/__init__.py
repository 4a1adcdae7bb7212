"""The page on which people judge the answers of a run: served on this machine, or written as one file."""
