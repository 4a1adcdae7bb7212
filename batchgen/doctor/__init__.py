"""`batchgen doctor`: examine this machine, and a job on it."""
