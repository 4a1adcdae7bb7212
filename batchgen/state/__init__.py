"""The private half of a run folder: lock, identity, journal, sealed parts, caches."""
