"""Fits the numbers of operator times on measured tables (the ``measured`` extra) or a user's own."""
