"""Compiled kernels on plain arrays and scalars; they import numpy and numba alone."""
