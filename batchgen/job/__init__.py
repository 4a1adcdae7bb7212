"""The job file: its schema, and the way from YAML text to a checked job."""
