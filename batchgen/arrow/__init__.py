"""Arrow types, values and row filters."""
