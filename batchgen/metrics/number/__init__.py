"""Numbers in answers: how they are written, which one is the answer, whether it is right."""
