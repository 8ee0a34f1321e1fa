"""Event simulation of a serving fleet on plain arrays."""
