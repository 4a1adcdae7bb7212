"""What commands print: summaries, tables, plans."""
