"""Content of text files: decompressed, then decoded."""
