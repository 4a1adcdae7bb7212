"""Log-likelihoods of given continuations."""
