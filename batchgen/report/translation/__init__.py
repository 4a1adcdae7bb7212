"""Chinese for what files contain in English words: facts of gates, reasons, and keys of the manifest."""
