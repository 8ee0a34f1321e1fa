"""Plans: the fewest GPUs that serve a workload within its latency limits."""
