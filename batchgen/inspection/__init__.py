"""Status, verification and purging of a run folder."""
