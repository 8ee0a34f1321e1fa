"""Operator rows: shape, FLOPs and bytes of each operator."""
