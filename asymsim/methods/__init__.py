"""Pruning methods, one a file: parameters in, a ``Schedule`` out."""
