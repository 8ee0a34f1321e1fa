"""Serving under load: requests over time, a cluster's engine steps, latencies, goodput, energy and cost."""
