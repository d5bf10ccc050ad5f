"""A list of scored pairs, such as the trials of a verification benchmark."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from pairfuse.evaluation.pairs import Tile

CHUNK = 2**20  # pairs at a time
SAMPLE = 2**20


class Trials:
    """Scored pairs with their targets.

    Args:
        scores: `(n,)`.
        same: Whether each pair is positive `(n,)`.
        units: The units of the left and of the right items `(2, n)`.

    Attributes:
        negatives: Number of negative pairs.
        positives: Number of positive pairs.
    """

    def __init__(self, scores: Tensor, same: Tensor, units: Tensor) -> None:
        self.scores, self.same, self.units = scores, same, units
        self.positives = int(same.sum())
        self.negatives = len(same) - self.positives

    def __iter__(self) -> Iterator[Tile]:
        """Yield all pairs."""
        for start in range(0, len(self.scores), CHUNK):
            some = slice(start, start + CHUNK)
            yield Tile(self.scores[some], self.units[0, some], self.units[1, some], self.same[some])

    def sample(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return some scores, and some of positive pairs."""
        some = torch.randperm(len(self.scores), generator=generator)[:SAMPLE].to(self.scores.device)
        positive = self.same.nonzero()[:, 0]
        return self.scores[some], self.scores[positive[:: max(1, len(positive) // SAMPLE)]]
