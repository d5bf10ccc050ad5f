"""`Example`: inputs like those of the example, with other sizes."""

import pytest
import torch
from export_cases import LENGTHS, Series, Texts, comparator, texts

from pairfuse.export.inputs import Example


def example(first, second, dynamic=LENGTHS, encoder=Series):
    return Example("test", comparator(encoder=encoder), (first, second), dynamic)


@pytest.mark.parametrize(
    ("lengths", "shifts"),
    [
        ((5, 5), (0, -1)),  # equal lengths get different
        ((5, 6), (0, 0)),
        ((2, 2), (0, 1)),  # torch.export would fix a length of 1
        ((1, 1), (1, 2)),
        ((1, 2), (1, 1)),
    ],
)
def test_lengths_to_trace(lengths, shifts):
    given = example(*(torch.randn(2, length, 3) for length in lengths))
    assert given.unlike_shifts() == shifts
    sizes = [x.shape for x in given.resized(3, 4, shifts=shifts)]
    assert sizes == [(n, length + shift, 3) for n, length, shift in zip((3, 4), lengths, shifts, strict=True)]


def test_values_come_from_the_example():
    """Rows and tokens are repeated or cut, so that every id is valid and a mask stays that of its ids."""
    x = texts(2, 3)
    (first, second) = example(x, x, encoder=Texts).resized(3, 1, shifts=(1, -1))
    wide = torch.cat([x["input_ids"], x["input_ids"][:, :1]], 1)
    assert torch.equal(first["input_ids"], torch.cat([wide, wide[:1]]))
    assert torch.equal(second["attention_mask"], x["attention_mask"][:1, :2])


def test_names_of_dimensions():
    """Each name once: the other tensors of an input have it from there."""
    x = texts(2, 3)
    given = example(x, x, encoder=Texts)
    assert [x.name for x in given.flat] == ["x1_input_ids", "x1_attention_mask", "x2_input_ids", "x2_attention_mask"]
    assert given.axis_names(all_pairs=False) == (
        {"input_ids": {0: "batch", 1: "x1_dim1"}, "attention_mask": {}},
        {"input_ids": {1: "x2_dim1"}, "attention_mask": {}},
    )
