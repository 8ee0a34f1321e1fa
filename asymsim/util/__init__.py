"""Errors, units, files, exact fractions, sampling and seeds."""
