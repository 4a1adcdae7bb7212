"""From answers to scores, metrics, gates and comparisons."""
