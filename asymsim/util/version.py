"""The version, where modules that the package itself offers lazily can read it."""

__version__ = "0.1.0"
