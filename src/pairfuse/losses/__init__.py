"""Losses over all pairs of a batch of labeled items, scored through the fusion and the head."""

from pairfuse.losses.all_pairs import AllPairsLoss

__all__ = ["AllPairsLoss"]
