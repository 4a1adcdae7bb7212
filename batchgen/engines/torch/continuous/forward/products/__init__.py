"""Products with constant weights, and the threads that share them."""
