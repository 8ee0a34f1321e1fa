"""From image size to token counts: one rule a file, each the rule of a family of models."""
