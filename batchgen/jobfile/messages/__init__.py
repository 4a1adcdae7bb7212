"""The text of job-file errors: what was expected, and hints."""
