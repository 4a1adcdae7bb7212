"""Input files: finding, reading, surveying and filtering them, and cutting them into chunks of rows."""
