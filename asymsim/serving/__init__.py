"""Serving under load: requests over time -> a fleet's schedule of steps -> latencies, goodput and the GPUs needed."""
