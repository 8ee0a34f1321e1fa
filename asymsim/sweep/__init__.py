"""Sweeps: many scenarios at once, in compiled blocks."""
