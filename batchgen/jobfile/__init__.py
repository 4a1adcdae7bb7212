"""From the YAML text of a job file to a checked `Job`: layers, profiles, overrides, positions of errors."""
