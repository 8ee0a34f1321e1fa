"""Figures as PNG bytes, one file a figure."""
