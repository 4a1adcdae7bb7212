"""How a model's weights are stored, read from its files before any weight is."""
