"""Histograms of scores for each pair of units, from which rates and their intervals follow without another look."""

import torch
from torch import Generator, Tensor

MAX_UNITS = 100  # more identities are put into this many groups
CELLS = 2**16  # of equal width, from which the bins are made
MARGIN = 0.5  # of the range of a sample, on both sides of it
SHARES = (0.4, 0.25, 0.25, 0.1)  # of the bins: negative pairs, positive pairs, decades of the FAR, equal widths


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
        both = torch.cat([scores, positive])
        low, high = both.aminmax()
        margin = (high - low).clamp_min(high.abs() * 1e-6 + torch.finfo(both.dtype).tiny) * MARGIN
        self._low, self._scale = low - margin, CELLS / (high - low + 2 * margin)
        cells = [torch.bincount(self._cell(x), minlength=CELLS).double() / len(x) for x in (scores, positive)]
        at_least = cells[0].flip(0).cumsum(0).flip(0).clamp_min(1 / (2 * len(scores)))
        decades = at_least.log10().diff(prepend=at_least.new_zeros(1)).abs()
        parts = [*cells, decades / decades.sum(), torch.full_like(decades, 1 / CELLS)]
        mass = sum(share * part for share, part in zip(SHARES, parts, strict=True))
        before = mass.cumsum(0) - mass  # type: ignore[union-attr]
        bins = (before * most).long().clamp_max(most - 1)
        bins = torch.unique(bins, return_inverse=True)[1]  # without empty ones
        self._bin_of_cell = bins.int()
        self.count = int(bins[-1]) + 1
        first = torch.searchsorted(bins, torch.arange(self.count, device=bins.device))
        self.lower = self._least_score(first)

    def _cell(self, scores: Tensor) -> Tensor:
        return scores.sub(self._low).mul_(self._scale).clamp_(0, CELLS - 1).int()  # two steps: rounded alike everywhere

    def _least_score(self, cells: Tensor) -> Tensor:
        """Return the least score that falls into each cell or a later one."""
        middle = self._low + cells / self._scale
        reach = 8 * torch.finfo(middle.dtype).eps * (self._low.abs() + CELLS / self._scale)
        below, reached = middle - reach, middle + reach
        for _ in range(64):  # halve until nothing is between them
            middle = (below + reached) / 2
            good = self._cell(middle) >= cells
            below, reached = torch.where(good, below, middle), torch.where(good, middle, reached)
        return reached

    def place(self, scores: Tensor) -> Tensor:
        """Return the bin of each score, int32."""
        bins: Tensor = self._bin_of_cell.index_select(0, self._cell(scores).flatten())
        return bins.view(scores.shape)


class UnitTable:
    """Counts of negative and positive pairs by their two units and the bin of their score.

    Args:
        units: Number of units G.
        bins: The bins.
        pairs: Number of pairs that will be added, at most.

    Attributes:
        negative: Counts `(G (G + 1) / 2, bins)`, a row for each unordered pair of units.
        positive: The same for positive pairs.
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

    @property
    def incidence(self) -> Tensor:
        """Where a unit is one of the two of a row: `(G, rows)`, float64."""
        units = torch.arange(self.units, device=self.left.device)[:, None]
        inside: Tensor = (units == self.left) | (units == self.right)
        return inside.double()

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
