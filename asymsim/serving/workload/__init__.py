"""Workloads: arrivals, mixes of requests, and recorded traces."""
