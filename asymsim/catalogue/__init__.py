"""What the world is made of: GPUs, models and number formats, as data with sources."""
