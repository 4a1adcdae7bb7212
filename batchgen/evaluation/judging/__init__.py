"""Judges: models that rate answers or compare them with those of another run."""
