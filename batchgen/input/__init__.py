"""Input files: found, read, surveyed, filtered, and cut into chunks of rows."""
