"""Sums of vectors and of their products, in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 128  # rows of a symmetric matrix that are computed at a time, from the diagonal on


class Sums(NamedTuple):
    """Sums over some rows: their number `()`, the rows `(F,)`, and their products `(F, F)`."""

    number: Tensor
    rows: Tensor
    gram: Tensor

    @classmethod
    def zero(cls, width: int, like: Tensor) -> "Sums":
        """Return the sums over no rows, on the device of a tensor."""
        new = like.new_zeros
        return cls(*(new(shape, dtype=torch.float64) for shape in ((), (width,), (width, width))))

    def plus(self, other: "Sums", sign: int = 1) -> "Sums":
        """Return the sums over both kinds of rows, or the difference."""
        return Sums(*(x + sign * y for x, y in zip(self, other, strict=True)))

    def add(self, rows: Tensor, times: int = 1) -> None:
        """Add rows `(n, F)` in place, each counted several times. Call `mirror` after the last ones."""
        self.number.add_(times * len(rows))
        self.rows.add_(rows.sum(0), alpha=times)
        for start in range(0, rows.shape[1], BLOCK):
            left, right = rows[:, start : start + BLOCK], rows[:, start:]
            self.gram[start : start + BLOCK, start:].addmm_(left.mT, right, alpha=times)

    def mirror(self) -> "Sums":
        """Fill the lower triangle of the products in place."""
        self.gram.copy_(self.gram.triu().add_(self.gram.triu(1).mT))
        return self


def whole_batches(sizes: Tensor, most: int) -> list[tuple[int, int]]:
    """Return ranges of groups that have together at most so many items, or consist of one group."""
    ends = sizes.cumsum(0)
    ranges, start = [], 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, before + most, right=True)))
        ranges.append((start, stop))
        start = stop
    return ranges


def pairs_within(sizes: Tensor, *, ordered: bool = False) -> tuple[Tensor, Tensor]:
    """Return the places of the pairs of two items of one group, for items sorted by group.

    Args:
        sizes: Number of items of each group.
        ordered: If True, both orders of each pair.
    """
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    sizes = sizes.repeat_interleave(sizes)
    items = torch.arange(len(sizes))
    later = sizes - 1 - (items - starts)  # items after it in its group
    i = items.repeat_interleave(later)
    j = i + 1 + torch.arange(len(i)) - (later.cumsum(0) - later).repeat_interleave(later)
    return (torch.cat([i, j]), torch.cat([j, i])) if ordered else (i, j)
