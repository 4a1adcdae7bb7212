"""From the text of a job file to a checked `Job`."""
