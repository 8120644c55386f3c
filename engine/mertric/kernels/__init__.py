"""Numba kernels. Compilation settings stand in `jit` alone."""
