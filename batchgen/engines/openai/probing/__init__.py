"""Finds out what a server honors, by requests whose answers show it."""
