"""Structured output: from `decoding.response_format` to the tokens that may come next. Without torch."""
