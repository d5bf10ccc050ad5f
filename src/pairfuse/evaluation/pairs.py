"""All pairs of labeled items, scored tile by tile."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pairfuse._progress import show_progress
from pairfuse.scoring import Scorer

TILE_PAIRS = 2**18  # so that the scores and bins of a tile fit the cache of a CPU
TILE_ROWS = 512
SAMPLE_ITEMS = 1024  # on each side of a sample of the pairs
SAMPLE_EACH = 32  # items of an identity


class Tile(NamedTuple):
    """Scores of some pairs.

    Attributes:
        scores: `(n, m)` if all pairs are negative and their left items have one unit; else `(n,)`.
        left: Units of the left items, `()` or `(n,)`.
        right: Units of the right items; `(m,)` and increasing, or `(n,)`.
        same: Whether each pair is positive `(n,)`; None if none is.
    """

    scores: Tensor
    left: Tensor
    right: Tensor
    same: Tensor | None


class Side(NamedTuple):
    """The items of one side.

    Attributes:
        embeddings: `(N, D)`.
        labels: `(N,)`.
        units: `(N,)`, increasing.
        positions: Where each item was before the items were sorted `(N,)`.
    """

    embeddings: Tensor
    labels: Tensor
    units: Tensor
    positions: Tensor


def sort_side(embeddings: Tensor, labels: Tensor, units: Tensor) -> Side:
    """Return a side with the items sorted by unit, and within a unit by label."""
    order = torch.argsort(labels, stable=True)
    order = order[torch.argsort(units[order], stable=True)]
    device = embeddings.device
    at = order.to(device)
    return Side(embeddings[at], labels[order].to(device), units[order].to(device), at)


class AllPairs:
    """The scores of all pairs of two sides, or of one with itself, in tiles.

    Args:
        owner: The caller, for errors.
        scorer: Scores the embeddings of the two sides.
        left: The left items.
        right: The right items.
        itself: True if both are the same set: then no item is paired with itself.
        halved: True if the order within a pair does not matter: then each pair comes once. Only for a set with itself.
        progress: If True, a bar shows how many units are done.

    Attributes:
        negatives: Number of negative pairs.
        positives: Number of positive pairs.
    """

    def __init__(
        self,
        owner: str,
        scorer: Scorer,
        left: Side,
        right: Side,
        *,
        itself: bool,
        halved: bool,
        progress: bool = False,
    ) -> None:
        self._owner, self.scorer, self.left, self.right = owner, scorer, left, right
        self.itself, self.halved, self.progress = itself, halved, progress
        identities, labels = torch.unique(torch.cat([left.labels, right.labels]), return_inverse=True)
        parts = torch.split(labels, [len(left.labels), len(right.labels)])
        sizes = [torch.bincount(x, minlength=len(identities)) for x in parts]
        self.positives = (int((sizes[0] * sizes[1]).sum()) - itself * len(left.labels)) // (1 + halved)
        pairs = len(left.labels) * (len(right.labels) - itself) // (1 + halved)
        self.negatives = pairs - self.positives

    @torch.no_grad()
    def __iter__(self) -> Iterator[Tile]:
        """Yield the scores of all pairs."""
        starts = [0, *(self.left.units.diff().nonzero()[:, 0] + 1).tolist()]
        ends = [*starts[1:], len(self.left.units)]
        units = zip(starts, ends, strict=True)
        for start, end in show_progress(units, "evaluating", len(starts)) if self.progress else units:
            for row in range(start, end, TILE_ROWS):
                yield from self._strip(slice(row, min(row + TILE_ROWS, end)))

    def _strip(self, rows: slice) -> Iterator[Tile]:
        """Yield the scores of some left items of one unit."""
        unit = self.left.units[rows.start]
        first, last = (int(x) for x in torch.searchsorted(self.right.units, torch.stack([unit, unit + 1])))
        begin, end = (rows.start if self.halved else 0), len(self.right.units)
        first = max(begin, first)
        parts = [
            (begin, first, False),
            (first, last, True),
            (last, end, False),
        ]  # only pairs within the unit may be same
        for start, stop, mixed in parts:
            width = max(1, TILE_PAIRS // (rows.stop - rows.start))
            for column in range(start, stop, width):
                columns = slice(column, min(column + width, stop))
                scores = self.scores(rows, columns)
                yield (
                    self._mixed(scores, rows, columns) if mixed else Tile(scores, unit, self.right.units[columns], None)
                )

    def _mixed(self, scores: Tensor, rows: slice, columns: slice) -> Tile:
        """Return the pairs of a tile one by one, without those that are left out."""
        wanted = torch.ones_like(scores, dtype=torch.bool)
        if self.halved:
            left, right = (torch.arange(x.start, x.stop, device=scores.device) for x in (rows, columns))
            wanted = left[:, None] < right
        elif self.itself:
            wanted = self.left.positions[rows, None] != self.right.positions[columns]
        same = self.left.labels[rows, None] == self.right.labels[columns]
        units = self.left.units[rows, None].expand_as(scores), self.right.units[columns].expand_as(scores)
        return Tile(scores[wanted], units[0][wanted], units[1][wanted], same[wanted])

    def sample(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the scores of some pairs, and those of some positive pairs."""
        identities, labels = torch.unique(torch.cat([self.left.labels, self.right.labels]).cpu(), return_inverse=True)
        left, right = torch.split(labels, [len(self.left.labels), len(self.right.labels)])
        sizes = [torch.bincount(x, minlength=len(identities)) for x in (left, right)]
        paired = sizes[0] * sizes[1] > (1 if self.itself else 0)
        ranks = torch.randperm(len(identities), generator=generator)
        rows, columns = (_some_items(x, ranks, paired) for x in (left, right))
        scores = self.scores(rows, columns)
        same = self.left.labels[rows, None] == self.right.labels[columns]
        if self.itself:
            others = self.left.positions[rows, None] != self.right.positions[columns]
            return scores[others], scores[same & others]
        return scores.flatten(), scores[same]

    @torch.no_grad()
    def scores(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Return the scores of some rows and columns `(n, m)`, at least in float32. Raise unless they are finite."""
        scores = self.scorer.block(rows, columns)[..., 0]
        low, high = scores.aminmax()
        if not (low.isfinite() and high.isfinite()):
            bad = int((~scores.isfinite()).sum())
            raise ValueError(
                f"{self._owner} expects finite scores, got {bad} of {scores.numel()} NaN or infinite in a block"
            )
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _some_items(labels: Tensor, ranks: Tensor, paired: Tensor) -> Tensor:
    """Return the positions of some items: those of random identities, half of them with positive pairs."""
    order = torch.argsort(ranks[labels])
    runs = ranks[labels[order]]
    within = torch.arange(len(order)) - torch.searchsorted(runs, runs)
    order = order[within < SAMPLE_EACH]
    has_pairs = paired[labels[order]]
    return torch.cat([order[has_pairs][: SAMPLE_ITEMS // 2], order[~has_pairs][: SAMPLE_ITEMS // 2]])
