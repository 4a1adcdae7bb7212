"""How the next token is chosen, and when an answer ends: settings, randomness, sampling, penalties, stopping."""
