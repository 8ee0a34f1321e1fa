"""Compiled kernels on plain arrays and scalars, under typed facades of the same names one level up."""
