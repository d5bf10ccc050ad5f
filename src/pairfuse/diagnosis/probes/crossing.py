"""Whether two items ever change their order: what a model that can answer "same" must be able to do."""

import itertools
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse.diagnosis.anova import Order, order_of, rms, rounding
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.function_recorder import FunctionRecorder
from pairfuse.diagnosis.outputs import coarsest
from pairfuse.diagnosis.probe import Undecided
from pairfuse.diagnosis.runner import CANNOT
from pairfuse.diagnosis.sample import cast, different_items, mixed, standardized
from pairfuse.items.batches import Batch

SURE, SURE_ENOUGH = 1000, 8  # times rounding, in float64 and below: no increasing function of a sum leaves that much
ITEMS = 8  # at least, on either side; mixtures where there are fewer
FEWEST = 4  # different items, mixtures included: of two or three a healthy model may never change the order
SCALES, SEEDS = (3, 1, 10), range(2)  # of the noise on the weights, times their size
SMALL = 1e-3  # what the biases are multiplied with in half of the draws
ENOUGH = 4  # of these draws must tell orders
RESOLVED = 10  # times rounding: the least spread of scores in which an order can be seen


class Crossing(NamedTuple):
    """What was seen.

    Attributes:
        seen: True if two items changed their order.
        draws: At how many sets of random weights orders could be told, and none changed.
        double: True if these were computed in float64.
    """

    seen: bool
    draws: int
    double: bool


def crosses_here(context: Context) -> bool:
    """True if two items change their order at the current weights, beyond any rounding."""
    grid, sample = context.grid_of("scores"), context.sample
    if not grid.isfinite().all() or not order_of(grid).crosses:
        return False
    return _order(context, sample.left, sample.right, grid, context.precision).crosses


def find_crossing(context: Context) -> Crossing:
    """Look for two items that change their order, at the current weights and at redrawn ones, near and far.

    A healthy model shows some at most draws, so that the search soon ends. Where items are few, mixtures are added: of
    two items alone a healthy model may change the order only after training. Offsets hide it too, since a product of
    two offsets is a sum, nearly; so half of the draws are with standardized items and small biases.

    Raises:
        Undecided: There are too few different items, or the scores are not finite, or no more than rounding.
    """
    left, right = _items(context)
    if min(different_items("x1", left), different_items("x2", right)) < FEWEST:
        raise Undecided("there are too few different items")
    grid = context.runner.score_all(left, right, of="scores")
    if not grid.isfinite().all():
        raise Undecided("some scores are not finite")
    here = _order(context, left, right, grid, context.precision)
    if here.crosses:
        return Crossing(True, 0, False)
    if not context.redraws:
        if rms(grid - grid.mean()) <= RESOLVED * here.noise / _sure(context.precision):
            raise Undecided("the scores differ by little more than rounding")
        return Crossing(False, 0, False)
    try:
        return _at_other_weights(context, torch.float64)
    except Exception:  # such as constants in float32: it runs in its own type
        return _at_other_weights(context, None)


def _at_other_weights(context: Context, dtype: torch.dtype | None) -> Crossing:
    left, right = _items(context)
    if dtype is not None:
        left, right = cast(left, dtype), cast(right, dtype)
    center = standardized(left), standardized(right)
    told = 0
    for seed, scale, near in itertools.product(SEEDS, SCALES, (False, True)):
        with context.runner.sandbox(dtype=dtype), torch.no_grad(), suppress(*CANNOT if near else ()):
            context.runner.redraw(scale, seed, biases=SMALL if near else 1)
            order = _drawn_order(context, *(center if near else (left, right)), dtype)
            if order.crosses:
                return Crossing(True, told, dtype is not None)
            told += order.told > ITEMS
    return Crossing(False, told, dtype is not None)


def _items(context: Context) -> tuple[Batch, Batch]:
    return mixed(context.sample.left, ITEMS), mixed(context.sample.right, ITEMS)


def _drawn_order(context: Context, left: Batch, right: Batch, dtype: torch.dtype | None) -> Order:
    recorder = FunctionRecorder()
    grid = context.runner.score_all(left, right, of="scores", recorder=recorder)
    if not grid.isfinite().all():
        return Order(False, 0, 0.0)
    held = context.held_precision if dtype is None else dtype
    return _order(context, left, right, grid, coarsest(held, recorder.precision))


def _order(context: Context, left: Batch, right: Batch, grid: Tensor, precision: torch.dtype) -> Order:
    size = context.runner.magnitude(left, right, grid, precision, of="scores")
    return order_of(grid, _sure(precision) * rounding(size, precision))


def _sure(precision: torch.dtype) -> int:
    return SURE if precision == torch.float64 else SURE_ENOUGH
