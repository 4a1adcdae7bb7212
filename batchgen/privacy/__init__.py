"""Personal data in text: where it is, and what is put in its place. Knows nothing of jobs, rows or files."""
