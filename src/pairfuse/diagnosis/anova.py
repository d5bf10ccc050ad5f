"""The analysis of variance of a grid of logits: row effects, column effects, and the interaction."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shares(NamedTuple):
    """The shares of a grid's variance that left items, right items, and only both together explain."""

    left: float
    right: float
    interaction: float


def additive_part(grid: Tensor) -> Tensor:
    """The sum `row[i] + column[j]` nearest to a grid `(n, m)` by least squares."""
    return grid.mean(1, keepdim=True) + grid.mean(0, keepdim=True) - grid.mean()


def shares(grid: Tensor) -> Shares:
    """The analysis of variance of a grid `(n, m)`; all 0 where it is constant."""
    mean, interaction = grid.mean(), grid - additive_part(grid)
    total = (grid - mean).square().mean()
    if total == 0:
        return Shares(0.0, 0.0, 0.0)
    left, right = (grid.mean(1) - mean).square().mean(), (grid.mean(0) - mean).square().mean()
    return Shares(*(float(part / total) for part in (left, right, interaction.square().mean())))


def rounding(magnitude: float, precision: torch.dtype) -> float:
    """The root mean square that rounding alone may leave in sums of numbers of this size, computed in `precision`."""
    units = 8 if precision.itemsize >= 4 else 1  # half types keep long sums in float32, and round once a layer
    return units * torch.finfo(precision).eps * magnitude


def rms(values: Tensor) -> float:
    """The root of the mean square."""
    return float(values.square().mean().sqrt())


class Order(NamedTuple):
    """The order of the items of a grid, beyond noise.

    Attributes:
        crosses: True if two left items are ordered one way by one right item and the other way by another, or the
            reverse. No never-decreasing function of a sum g + h does that, and XNOR needs it.
        told: How many pairs of left and of right items are ordered by two items of the other side or more.
        noise: The differences that do not count.
    """

    crosses: bool
    told: int
    noise: float


def order_of(grid: Tensor, noise: float = 0.0) -> Order:
    """The order of the items of a grid; differences up to `noise` do not count."""
    noise = max(noise, 1e-6 * float((grid - grid.mean()).abs().max()))
    crosses, told = False, 0
    for side in (grid, grid.T):
        differences = side[:, None] - side[None]  # (n, n, m)
        above, below = (differences > noise).sum(-1), (differences < -noise).sum(-1)
        crosses = crosses or bool((above.minimum(below) > 0).any())
        told += int((above + below >= 2).sum()) // 2
    return Order(crosses, told, noise)
