"""Detection and replacement of personal data in text."""
