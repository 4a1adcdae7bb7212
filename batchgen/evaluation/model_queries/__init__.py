"""Log-likelihood queries to a model about finished answers."""
