"""Kernels compiled by numba for decoding on a CPU."""
