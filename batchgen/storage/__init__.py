"""Durable files, caches, SQLite, and what file systems guarantee."""
