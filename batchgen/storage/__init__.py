"""Durable files, the cache folder, SQLite, and properties of filesystems."""
