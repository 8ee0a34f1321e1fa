"""Predictions against measurements, kernels and dense attention."""
