"""Whether people agree with each other, and with judges and metrics."""
