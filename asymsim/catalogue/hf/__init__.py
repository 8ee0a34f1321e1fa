"""Adapters from Hugging Face ``config.json`` files to ``VlmModel``, one ``model_type`` a file."""
