"""`batchgen.score`: scores a published run or any table of responses."""
