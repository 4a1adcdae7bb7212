"""Continuous batching: rows enter and leave at every step, their keys and values live in pages.

scheduler.py   who runs next, and who has to leave: plain Python
pages.py       which page belongs to whom: plain Python
store.py       the pages as tensors
step.py        one forward as tensors: tokens, places, groups
attention.py   attention over pages, prefixes and fresh tokens
wrapped.py     an unmodified transformers model on such a step
llama.py       the same weights, run by our own forward where that answers the same
engine.py      the loop: choose, compute, book
"""
