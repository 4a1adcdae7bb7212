"""The runs of a matrix: one after another with one loaded engine, then compared."""
