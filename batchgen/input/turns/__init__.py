"""Conversations: rows for the turns of a row."""
