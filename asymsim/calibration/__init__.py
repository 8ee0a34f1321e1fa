"""Fits the numbers of operator times on measured tables; needs the ``measured`` extra."""
