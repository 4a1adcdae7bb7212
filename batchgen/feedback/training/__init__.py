"""Training data from votes, metrics and judges."""
