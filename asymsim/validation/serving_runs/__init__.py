"""Serving runs measured by others, against the simulator end to end."""
