"""A reader for each file format: CSV, JSONL, Parquet."""
