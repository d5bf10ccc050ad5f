"""A grid of logits taken apart: row effects, column effects, and the interaction."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shares(NamedTuple):
    """Which part of a grid's variance the left items explain, which the right items, and which only both together."""

    left: float
    right: float
    interaction: float


def additive_part(grid: Tensor) -> Tensor:
    """The sum `row[i] + column[j]` that is nearest to a grid `(n, m)` by least squares."""
    return grid.mean(1, keepdim=True) + grid.mean(0, keepdim=True) - grid.mean()


def shares(grid: Tensor) -> Shares:
    """The analysis of variance of a grid `(n, m)`; all 0 where it is constant."""
    mean, interaction = grid.mean(), grid - additive_part(grid)
    total = (grid - mean).square().mean()
    if total == 0:
        return Shares(0.0, 0.0, 0.0)
    left, right = (grid.mean(1) - mean).square().mean(), (grid.mean(0) - mean).square().mean()
    return Shares(*(float(part / total) for part in (left, right, interaction.square().mean())))


def rounding(grid: Tensor, precision: torch.dtype) -> float:
    """The root mean square that rounding alone may leave: 8 units of the largest logit, as computed in `precision`."""
    return 8 * torch.finfo(precision).eps * float(grid.abs().max())


def rms(values: Tensor) -> float:
    """The root of the mean square."""
    return float(values.square().mean().sqrt())


def crosses_over(grid: Tensor) -> bool:
    """Whether two left items are ordered one way by one right item and the other way by another, or the reverse.

    No never-decreasing function of a sum g + h does that, and XNOR needs it.
    """
    return _row_order_changes(grid) or _row_order_changes(grid.T)


def _row_order_changes(grid: Tensor) -> bool:
    differences = grid[:, None] - grid[None]  # (n, n, m)
    noise = 1e-6 * float((grid - grid.mean()).abs().max())
    return bool(((differences > noise).any(-1) & (differences < -noise).any(-1)).any())
