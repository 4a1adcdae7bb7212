"""One forward pass of the continuous tier: models, attention, linear layers, compiled kernels."""
