"""What goes into a batch and how large one may be: plain arithmetic, no tensors."""
