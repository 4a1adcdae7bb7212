"""The public half of a run folder: its columns, how its files are published, and how they are read."""
