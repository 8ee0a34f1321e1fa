"""Pruning methods against each other, against break-even, and against what papers printed."""
