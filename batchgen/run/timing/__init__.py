"""How long a run will take: from earlier runs on this machine, or from a few measured rows."""
