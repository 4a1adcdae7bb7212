"""Models are found, downloaded, described and checked, without loading their weights."""
