"""All runs of a job over time: what `batchgen history` prints and writes."""
