"""`batchgen init`: look at a table, and write a first job for it."""
