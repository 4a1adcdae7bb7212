"""The static tier: sorted, left-padded batches."""
