"""Batches of items, how they are read and checked, and one side of a comparison."""

from pairfuse.items.reading import Items

__all__ = ["Items"]
