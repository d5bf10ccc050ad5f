"""One look at the scores of all pairs: their ROC curve, and their counts by units."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pairfuse.evaluation.curve import Curve, Sample
from pairfuse.evaluation.intervals import LEVELS
from pairfuse.evaluation.pairs import AllPairs
from pairfuse.evaluation.table import Bins, FastBins, UnitTable
from pairfuse.evaluation.trials import Trials

Source = AllPairs | Trials
EXACT_SHARE = 0.4  # of `max_bytes` that the scores of all pairs may take; if they take more, they are counted in bins
BINS = 2048  # of scores that are not kept


class Collected(NamedTuple):
    """What is kept of the scores of all pairs.

    Attributes:
        curve: The ROC curve.
        table: Counts of the pairs by their units and bins.
        middles: A score that stands for each bin `(B,)`.
    """

    curve: Curve
    table: UnitTable
    middles: Tensor


def collect(owner: str, sources: list[Source], units: int, generator: Generator, max_bytes: int) -> Collected:
    """Look at all pairs once. All scores are kept if they take at most `EXACT_SHARE` of `max_bytes`.

    Raises:
        ValueError: There are no positive or no negative pairs, or all scores are equal.
    """
    negatives, positives = count_pairs(sources)
    for kind, count in (("positive", positives), ("negative", negatives)):
        if not count:
            raise ValueError(
                f"{owner} expects positive and negative pairs, got {positives:,} positive and {negatives:,} negative "
                f"ones: there is no {kind} pair"
            )
    scores, positive = (torch.cat(parts) for parts in zip(*(x.sample(generator) for x in sources), strict=True))
    exact = (negatives + positives) * scores.element_size() <= max_bytes * EXACT_SHARE
    bins = Bins(scores, positive, LEVELS) if exact else FastBins(scores, positive, BINS)
    table = UnitTable(max(1, units), bins, negatives + positives)
    kept = _Kept(negatives, positives, scores.dtype) if exact else None
    low, high = torch.inf, -torch.inf
    for source in sources:
        for tile in source:
            if tile.scores.numel() == 0:
                continue
            ends = [float(x) for x in tile.scores.aminmax()]
            low, high = min(low, ends[0]), max(high, ends[1])
            if tile.same is None:
                table.add_negative_tile(tile.scores, tile.left, tile.right)
            else:
                table.add(tile.scores, tile.left, tile.right, tile.same)
            if kept is not None:
                kept.add(tile.scores, tile.same)
    if low == high:
        raise ValueError(f"{owner} expects scores that differ, got {negatives + positives:,} scores of {low:g}")
    edges = torch.cat([bins.lower, bins.lower.new_tensor([high])])
    edges[0] = low
    curve = Curve(*(_binned(edges[:-1], counts) for counts in (table.negative, table.positive)))
    if kept is not None:
        curve = Curve(*kept.samples())
    return Collected(curve, table, ((edges[1:] + edges[:-1]) / 2).double())


def count_pairs(sources: list[Source]) -> tuple[int, int]:
    """Return the number of negative and positive pairs."""
    return sum(x.negatives for x in sources), sum(x.positives for x in sources)


def _binned(lower: Tensor, counts: Tensor) -> Sample:
    total = counts.sum(0)
    some = total > 0
    return Sample(lower[some].cpu(), total[some].cpu())


class _Kept:
    """The scores of all pairs."""

    def __init__(self, negatives: int, positives: int, dtype: torch.dtype) -> None:
        self._arrays = [torch.empty(count, dtype=dtype) for count in (negatives, positives)]
        self._places = [0, 0]

    def add(self, scores: Tensor, same: Tensor | None) -> None:
        """Add the scores of a tile."""
        parts = [scores.flatten()] if same is None else [scores[~same], scores[same]]
        for kind, part in enumerate(parts):
            place = self._places[kind]
            self._arrays[kind][place : place + len(part)] = part
            self._places[kind] += len(part)

    def samples(self) -> list[Sample]:
        """Return negative and positive scores, sorted in place."""
        for array in self._arrays:
            array.numpy().sort()  # torch would also return positions, twice the memory
        return [Sample(array) for array in self._arrays]
