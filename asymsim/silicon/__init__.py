"""Serving runs that others measured, held against the simulator end to end."""
