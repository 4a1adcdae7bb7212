"""The server of the page: who may send requests, what they get, and votes on disk."""
