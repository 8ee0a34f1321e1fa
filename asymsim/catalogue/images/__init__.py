"""Image rules: token counts of an image from its size, one family of models a file."""
