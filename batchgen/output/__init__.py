"""The public half of a run folder: columns, staging and publishing of results."""
