"""What a batch of items is, how it is read and checked, and one side of a comparison."""

from pairfuse.items.reading import Items

__all__ = ["Items"]
