"""The generate tier: plain `model.generate`, for beam search and encoder-decoders."""
