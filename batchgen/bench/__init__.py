"""`batchgen bench`: this engine beside others on the rows of a job."""
