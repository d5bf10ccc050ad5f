"""The version of pairfuse."""

__version__ = "0.1.0"
