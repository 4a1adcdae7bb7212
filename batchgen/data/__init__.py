"""Rows in, answers out: sources as streams, sealed parts, published files."""
