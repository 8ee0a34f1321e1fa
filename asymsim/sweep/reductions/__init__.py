"""Reductions of a sweep: histograms, quantiles, SLO counts, Pareto front and top-k."""
