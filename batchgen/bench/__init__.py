"""`batchgen bench`: compares the engines on the rows of a job."""
