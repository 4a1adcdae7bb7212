"""The report: one HTML file about a scored run, for people who do not query Parquet files."""
