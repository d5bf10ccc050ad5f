"""Nested batches: what fits together, and what an error says of their shapes."""

from collections import UserDict

import pytest
import torch

from pairfuse.items.batches import combine, count_items, describe, fit_together, tensors

X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("x1", "x2", "fit"),
    [
        (X, X + 1, True),
        (X, torch.nn.Parameter(X), True),
        (X, torch.zeros(2, 4), False),
        (X, X.double(), False),
        (X, X.to("meta"), False),
        (X, (X,), False),
        ({"a": X}, {"a": X}, True),
        ({"a": X}, {"b": X}, False),
        ({"a": X}, UserDict(a=X), False),
        ((X, X), (X, X), True),
        ((X, X), (X,), False),
        ((X, X), [X, X], False),
        ((X, {"a": [X]}), (X, {"a": [X]}), True),
        ((X, {"a": [X]}), (X, {"a": [X.double()]}), False),
    ],
)
def test_fit_together(x1, x2, fit):
    """Only batches that fit are encoded in one pass: joining float32 and float64 would change the one."""
    assert fit_together(x1, x2) == fit


def test_tensors_and_count():
    batch = {"a": (X, [X]), "b": X}
    assert len(tensors("x1", batch)) == 3
    assert count_items("x1", batch) == 2


def test_describe():
    assert describe({"a": (X, X), "b": X[0]}) == "{'a': [shape (2, 3), shape (2, 3)], 'b': shape (3,)}"


def test_combine_keeps_containers_and_changes_nothing():
    batch = UserDict(a=(X, [X]))
    doubled = combine(lambda x: x + 1, batch)
    assert isinstance(doubled, UserDict)
    assert isinstance(doubled["a"], tuple)
    assert (doubled["a"][1][0] == 1).all()
    assert (X == 0).all()
    assert batch["a"][0] is X
