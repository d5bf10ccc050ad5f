"""Histograms of scores for each pair of units, from which rates and their intervals follow without another look."""

import math

import torch
from torch import Generator, Tensor
from typing_extensions import override

MAX_UNITS = 100  # more identities are put into this many groups
CELLS = 2**16  # of equal width, from which the bins are made
WIDE = 50.0  # times the range of 98 % of the scores, beyond which scores are squeezed


def number_units(units: Tensor, generator: Generator) -> tuple[Tensor, int]:
    """Number units from 0 on. If there are more than `MAX_UNITS`, put them at random into as many groups.

    Args:
        units: The unit of each item `(N,)`, such as its identity: what is drawn as a whole when items are drawn.
        generator: Draws the groups.

    Returns:
        The number of each item's unit or group `(N,)`, and how many there are.
    """
    numbers = torch.unique(units, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count <= MAX_UNITS:
        return numbers, count
    return (torch.randperm(count, generator=generator) % MAX_UNITS)[numbers], MAX_UNITS


class Bins:
    """Bins of scores, placed by a sample: narrow where pairs are frequent, and where a low FAR has its threshold.

    Args:
        scores: A sample of the scores of all pairs `(n,)`.
        positive: A sample of the scores of positive pairs `(m,)`.
        most: The largest number of bins.

    Attributes:
        lower: The least score of each bin `(B,)`. The first bin also holds all lower scores.
    """

    def __init__(self, scores: Tensor, positive: Tensor, most: int) -> None:
        ordered = scores.sort().values
        samples = (ordered, ordered, ordered, positive.sort().values)
        tail = 10 ** torch.linspace(0, -math.log10(len(scores)), most // 5, dtype=torch.float64)
        even = torch.linspace(0, 1, 2 * most // 5, dtype=torch.float64)
        shares = (even, 1 - tail, tail, even[::2])  # ranks, then decades of the highest and of the lowest scores
        places = [(x * (len(y) - 1)).long().to(y.device) for x, y in zip(shares, samples, strict=True)]
        self.lower = torch.unique(torch.cat([y[x] for x, y in zip(places, samples, strict=True)]))

    @property
    def count(self) -> int:
        """The number of bins."""
        return len(self.lower)

    def place(self, scores: Tensor) -> Tensor:
        """Return the bin of each score, int32."""
        return torch.bucketize(scores.contiguous(), self.lower[1:], right=True, out_int32=True)


class FastBins(Bins):
    """The same, ten times as fast: a score is first placed in one of many cells of equal width, each within one bin.

    Scores that spread over many orders of magnitude are squeezed before, so that a few large ones do not push all
    others into one cell.
    """

    def __init__(self, scores: Tensor, positive: Tensor, most: int) -> None:
        super().__init__(scores, positive, most)
        both = torch.cat([scores, positive]).sort().values
        low, middle, high = (both[int(share * (len(both) - 1))] for share in (0.01, 0.5, 0.99))
        self._middle, self._unit = middle, (high - low).clamp_min(middle.abs() * 1e-5 + 1e-30)
        ends = (both[-1] - middle, middle - both[0])
        self._squeezes = bool(max(ends) > WIDE * self._unit)
        reach = 1.0 if self._squeezes else 1.5 * float(max(ends) / self._unit)
        self._scale = CELLS / (2 * max(reach, 1e-3))
        first = torch.unique(self._cell(self.lower).long())
        bins = torch.searchsorted(first, torch.arange(CELLS, device=first.device), right=True) - 1
        self._bin_of_cell = bins.clamp_min(0).int()
        self.lower = self._least_score(first)

    def _cell(self, scores: Tensor) -> Tensor:
        """Return the cell of each score; every step is rounded alike everywhere, so the order stays."""
        shifted = scores.sub(self._middle).div_(self._unit)
        if self._squeezes:
            shifted.clamp_(-1e30, 1e30)  # else infinity is divided by itself
            shifted.div_(shifted.abs().add_(1.0))
        return shifted.mul_(self._scale).add_(CELLS / 2).clamp_(0, CELLS - 1).int()

    def _least_score(self, cells: Tensor) -> Tensor:
        """Return the least score that falls into each cell or a later one."""
        largest = torch.finfo(self.lower.dtype).max
        below, reached = (_as_order(torch.full_like(cells, end, dtype=self.lower.dtype)) for end in (-largest, largest))
        for _ in range(8 * self.lower.element_size()):  # halve the numbers between the two
            middle = (below & reached) + ((below ^ reached) >> 1)  # their mean, without overflow
            good = self._cell(_from_order(middle, self.lower.dtype)) >= cells
            below, reached = torch.where(good, below, middle), torch.where(good, middle, reached)
        return _from_order(reached, self.lower.dtype)

    @override
    def place(self, scores: Tensor) -> Tensor:
        bins: Tensor = self._bin_of_cell.index_select(0, self._cell(scores).flatten())
        return bins.view(scores.shape)


def _as_order(x: Tensor) -> Tensor:
    """Return whole numbers in the order of floats, a step for each float; in int64."""
    bits = x.view(torch.int32 if x.element_size() == 4 else torch.int64).long()
    return torch.where(bits < 0, bits ^ (2 ** (8 * x.element_size() - 1) - 1), bits)


def _from_order(order: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the floats of `_as_order`."""
    bits = torch.where(order < 0, order ^ (2 ** (8 * dtype.itemsize - 1) - 1), order)
    return bits.to(torch.int32 if dtype.itemsize == 4 else torch.int64).view(dtype)


class UnitTable:
    """Counts of negative and positive pairs by their two units and the bin of their score.

    Args:
        units: Number of units G.
        bins: The bins.
        pairs: Number of pairs that will be added, at most.

    Attributes:
        negative: Counts `(G (G + 1) / 2, bins)`, a row for each unordered pair of units.
        positive: The same for positive pairs.
        incidence: Where a unit is one of the two of a row `(G, rows)`, float64.
    """

    def __init__(self, units: int, bins: Bins, pairs: int) -> None:
        self.units, self.bins = units, bins
        device = bins.lower.device
        left, right = torch.triu_indices(units, units, device=device)
        self.rows = torch.empty(units, units, dtype=torch.long, device=device)
        self.rows[left, right] = self.rows[right, left] = torch.arange(len(left), device=device)
        self.left, self.right = left, right  # the two units of each row
        self.negative = torch.zeros(
            len(left), bins.count, dtype=torch.int32 if pairs < 2**31 else torch.int64, device=device
        )
        self.positive = torch.zeros_like(self.negative)
        numbers = torch.arange(units, device=device)[:, None]
        self.incidence: Tensor = ((numbers == left) | (numbers == right)).double()

    def add(self, scores: Tensor, left: Tensor, right: Tensor, same: Tensor) -> None:
        """Add pairs: their scores, the units of their items and whether they are the same, each `(n,)`."""
        keys = self.rows[left, right] * self.bins.count + self.bins.place(scores)
        for table, chosen in ((self.negative, ~same), (self.positive, same)):
            table.view(-1).index_add_(0, keys[chosen], table.new_ones(()).expand(int(chosen.sum())))

    def add_negative_tile(self, scores: Tensor, left: Tensor, right: Tensor) -> None:
        """Add negative pairs `(n, m)` of one unit on the left and sorted units `(m,)` on the right."""
        first, last = int(right[0]), int(right[-1])
        keys = self.bins.place(scores)
        keys += ((right - first) * self.bins.count).int()
        counts = torch.bincount(keys.flatten(), minlength=(last + 1 - first) * self.bins.count)
        rows = self.rows[left, first : last + 1]
        self.negative.index_add_(0, rows, counts.view(len(rows), -1).to(self.negative))
