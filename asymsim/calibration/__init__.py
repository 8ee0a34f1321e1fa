"""Latency parameters fitted on measured tables (the ``measured`` extra) or on a user's own measurements."""
