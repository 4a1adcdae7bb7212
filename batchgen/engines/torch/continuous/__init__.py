"""Continuous batching: rows enter and leave at every step, their keys and values live in pages.

Who runs next is decided in plain Python: `planning/scheduler.py`, on `sequences.py`, `pages.py` and `pages.py` beside it.

continuous_tier.py      the loop: choose, compute, book
step.py        one forward as tensors: tokens, places, groups
workers.py       processes that compute the parts of a step side by side
kv_store.py       keys and values: pages of rows, an arena of prefixes
attention.py   attention over keys in one piece, and how pieces are merged
step_attention.py      a layer's attention over a step: fresh tokens, pages, prefixes
paged_attention.py       one new token of each row over the row's own pages, by torch
kernel_dispatch.py    the same and norms by kernels, where they are to be had and right
kernels/       the kernels
llama.py       the weights of Llama's family, run by our own forward where that answers the same
transformers_model.py     an unmodified transformers model on such a step
linear.py      products with weights that do not change
token_picker.py        the next token of each row
continuous_probe.py       whether a model can run on slots, and by which forward
batch_invariance.py whether a row's logits depend on its neighbours, to the bit
"""
