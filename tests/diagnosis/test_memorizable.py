"""Memorizable pairs: the order has a solution iff a linear program has one."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from pairfuse.diagnosis.memorizable import is_memorizable

ITEMS = st.integers(0, 3)


@given(st.lists(st.tuples(ITEMS, ITEMS, st.booleans()), min_size=1, max_size=10))
def test_is_memorizable_agrees_with_a_linear_program(pairs):
    """Numbers g and h with g[i] + h[j] >= 1 for same and <= -1 for different pairs."""
    left, right, same = (list(part) for part in zip(*pairs, strict=True))
    rows = []
    for i, j, is_same in pairs:
        row = [0.0] * 8
        row[i] = row[4 + j] = -1.0 if is_same else 1.0
        rows.append(row)
    feasible = linprog([0.0] * 8, A_ub=rows, b_ub=[-1.0] * len(rows), bounds=(None, None)).success
    items = torch.arange(4.0)[:, None]
    assert is_memorizable(items[left], items[right], torch.tensor(same)) == feasible


def test_xnor_is_not_memorizable():
    """No number for each item fits the four pairs of two items."""
    x1, x2 = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    assert not is_memorizable(x1, x2, torch.tensor([True, False, False, True]))
