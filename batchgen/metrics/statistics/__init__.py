"""Distributions, intervals and paired tests: plain numpy."""
