"""The continuous tier: rows enter and leave at every step; keys and values are in pages.

`planning/scheduler.py` decides which rows run next, with `sequences.py` and `pages.py` of that package.

    continuous_tier.py   the loop: choose rows, compute a step, collect tokens
    step_runner.py       runs a step; recovers when memory runs out
    step.py              one step as tensors: tokens, positions, groups
    workers.py           processes that compute the parts of a step in parallel
    kv_store.py          keys and values in pages: of rows, and of shared prefixes
    token_picker.py      the next token of each row
    early_kernels.py     starts the process that compiles kernels while a model is converted
    forward/             one forward pass

`select/continuous_probe.py` tests whether a model can run here, `select/batch_invariance.py` whether its results depend on
the batch.
"""
