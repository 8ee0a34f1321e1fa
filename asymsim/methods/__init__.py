"""Pruning methods, one a file, and the schedules they make."""
