"""The dtype in which torch computes a model, and the measurement that it depends on."""
