"""Loops over numbers that torch has no operation for, compiled by numba; they read and write memory as it lies.

decode.py    one new token of each row over the row's prefix and its own pages
softmax.py   weights of scores
norm.py      rows divided by their root mean square
jit.py       how kernels are compiled, and what only a compiler can say

Float32 on a CPU. Each row is computed the same beside any others. What is not finite stays not finite: no flag lets the
compiler assume otherwise. Nothing here knows of torch and models. `compiled.py` decides whether these are used.
"""
