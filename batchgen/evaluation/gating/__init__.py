"""Conditions and findings of gates as facts, and the run that `previous` means."""
