"""The floors of an additive model on the four pairs, which the documentation states."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pairfuse.testing.strategies import GRID

Y = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)  # bb, bw, wb, ww


def additive(g: list[float], h: list[float]) -> torch.Tensor:
    return torch.tensor([g[i] + h[j] for i in (0, 1) for j in (0, 1)], dtype=torch.float64)


@given(st.lists(GRID, min_size=2, max_size=2), st.lists(GRID, min_size=2, max_size=2))
def test_no_additive_model_is_below_the_floors(g, h):
    """Cross-entropy ln 2, squared error 0.25, accuracy 75 %."""
    logits = additive(g, h)
    assert nn.functional.binary_cross_entropy_with_logits(logits, Y) >= math.log(2) - 1e-12
    assert (logits.sigmoid() - Y).square().mean() >= 0.25 - 1e-12
    assert ((logits > 0) == (Y > 0.5)).sum() <= 3


def test_the_floors_are_reached():
    """All logits 0 reach both losses; three right answers reach the accuracy, and the squared error in the limit."""
    zero = additive([0, 0], [0, 0])
    assert nn.functional.binary_cross_entropy_with_logits(zero, Y).item() == math.log(2)
    assert (zero.sigmoid() - Y).square().mean() == 0.25
    corner = additive([10, -20], [10, -20])  # bb +, bw −, wb −, ww −: wrong at ww
    assert ((corner > 0) == (Y > 0.5)).sum() == 3
    assert abs((corner.sigmoid() - Y).square().mean() - 0.25) < 1e-4
