"""Random pairs of labeled items."""

import pickle
import random
from collections import Counter, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelings import labelings
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pairfuse.data import LabelledPairs

SIZES = [8, 2, 1]
LABELS = torch.arange(3).repeat_interleave(torch.tensor(SIZES))


def draw(labels, length=100, **options):
    """Pairs of positions, and targets: the items are their own positions."""
    pairs = LabelledPairs(torch.arange(len(labels)), labels, length=length, **options)
    return [(int(x1), int(x2), y.item()) for x1, x2, y in pairs]


@given(labelings(), st.sampled_from(["identities", "items"]), st.integers(-2, 2))
def test_the_target_says_whether_the_labels_are_equal(labels, kind, seed):
    """No item is paired with itself, and no unlabeled item is paired."""
    for i, j, y in draw(labels, 30, draw=kind, seed=seed):
        assert y == float(labels[i] == labels[j])
        assert i != j
        assert labels[i] != -1
        assert labels[j] != -1


@pytest.mark.parametrize("same", [0, 0.1, 0.5, 1.0])
def test_share_of_positive_pairs(same):
    share = sum(y for *_, y in draw(LABELS, 2000, same=same)) / 2000
    assert abs(share - same) <= 4 * (same * (1 - same) / 2000) ** 0.5


def check_counts(counts, expected, draws):
    """Each outcome is as frequent as expected, within five standard deviations, and there are no others."""
    assert set(counts) == set(expected)
    for outcome, p in expected.items():
        assert abs(counts[outcome] - draws * p) <= 5 * (draws * p * (1 - p)) ** 0.5, outcome


@pytest.mark.parametrize("kind", ["identities", "items"])
@pytest.mark.parametrize("exclude_self", [True, False])
def test_how_often_pairs_are_drawn(kind, exclude_self):
    """Compared with the probability of every pair, written down item by item."""
    draws, items = 4000, range(len(LABELS))
    size = [SIZES[label] for label in LABELS]
    pool = [i for i in items if size[i] > exclude_self]
    pools = len({int(LABELS[i]) for i in pool})
    positive, negative = {}, {}
    for i in items:
        for j in items:
            if LABELS[i] == LABELS[j] and i in pool and not (exclude_self and i == j):
                first = 1 / len(pool) if kind == "items" else 1 / (pools * size[i])
                positive[i, j] = first / (size[i] - exclude_self)
            if LABELS[i] != LABELS[j]:
                negative[i, j] = 1 / (3 * 2 * size[i] * size[j]) if kind == "identities" else 1 / (2 * (16 + 8 + 2))
    for same, expected in ((1, positive), (0, negative)):
        drawn = draw(LABELS, draws, same=same, draw=kind, exclude_self=exclude_self)
        check_counts(Counter((i, j) for i, j, _ in drawn), expected, draws)


def test_a_pair_depends_on_seed_and_index_alone():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = draw(LABELS)
    assert draw(LABELS, 150)[:100] == first
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    torch.rand(5)
    random.random()
    assert draw(LABELS) == first
    assert draw(LABELS, seed=1) != first
    assert draw(LABELS, seed=1)[:-1] != first[1:]


def test_workers_and_copies_agree():
    pairs = LabelledPairs(torch.randn(len(LABELS), 3), LABELS, length=20)
    for other in (
        DataLoader(pairs, 5),
        DataLoader(pairs, 5, num_workers=2),
        DataLoader(pickle.loads(pickle.dumps(pairs)), 5),
    ):
        for side, parts in enumerate(zip(*other, strict=True)):
            assert torch.equal(torch.cat(parts), torch.stack([pair[side] for pair in pairs]))


class Images(Dataset):
    """A data set that loads: it counts what it reads."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        self.read.append(index)
        return torch.full((1, 2), index), index % 7


def test_items_of_a_data_set_are_read_when_asked_for():
    """Two for each pair; their labels are left out."""
    images = Images()
    pairs = LabelledPairs(images, np.arange(10_000) % 10, length=10**12)
    assert images.read == []
    x1, x2, y = pairs[10**11]
    assert images.read == [x1[0, 0], x2[0, 0]]
    assert x1.shape == x2.shape == (1, 2)
    assert y.item() == float(x1[0, 0] % 10 == x2[0, 0] % 10)


Named = namedtuple("Named", ["x", "y"])
X, N = torch.arange(4.0), torch.arange(4)


@pytest.mark.parametrize(
    ("items", "label_is_left_out"),
    [
        (TensorDataset(X), True),
        (TensorDataset(X, N), True),
        (TensorDataset(X, N[:, None]), True),
        (TensorDataset(X, N[:, None].repeat(1, 2)), False),
        ([(X[i], "name") for i in range(4)], True),
        ([(X[i], np.int64(3)) for i in range(4)], True),
        ([Named(X[i], 3) for i in range(4)], False),
        ([(X[i], 3, 4) for i in range(4)], False),
    ],
)
def test_labels_of_a_data_set_are_left_out(items, label_is_left_out):
    """By the same rule as everywhere: a second part of two that is one number or string."""

    class Given(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return items[index]

    x1, x2, _ = LabelledPairs(Given(), [0, 0, 1, 1], length=1)[0]
    assert isinstance(x1, torch.Tensor) == isinstance(x2, torch.Tensor) == label_is_left_out


def test_nested_items_and_a_transform():
    """A batch of dicts gives dicts; the transform gets each item by itself."""
    items = {"ids": N[:, None].repeat(1, 3), "more": (N, X)}
    pairs = LabelledPairs(items, [0, 0, 1, 1], length=1, transform=lambda item: item | {"double": 2 * item["ids"]})
    for x in pairs[0][:2]:
        assert x["ids"].shape == x["double"].shape == (3,)
        assert x["ids"][0] == x["more"][0] == x["more"][1] == x["double"][0] / 2


def test_length_and_index():
    pairs = LabelledPairs(N, [0, 0, 1, 1], length=3)
    assert len(pairs) == len(list(pairs)) == 3
    assert all(pairs[i - 3] == pairs[i] for i in range(3))
    assert pairs[np.int64(1)] == pairs[1]
    assert len(LabelledPairs(N, [0, 0, 1, 1], length=0)) == 0
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"LabelledPairs has 3 pairs, got index {index}"):
            pairs[index]
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        pairs[1.0]


def test_what_is_not_drawn_need_not_exist():
    """One identity is enough for positive pairs, singletons for negative ones, or for pairs of an item with itself."""
    assert all(y == 1 for *_, y in draw([4, 4, -1], same=1))
    assert all(y == 0 for *_, y in draw([4, 5, -1], same=0))
    assert all((i == j) == y for i, j, y in draw([4, 5, -1], exclude_self=False))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": [0, 0, 1]}, ValueError, "LabelledPairs expects one label for each item, got 3 labels and 4 items"),
        ({"labels": X}, TypeError, "LabelledPairs expects labels of an integer dtype, got torch.float32"),
        ({"labels": N[None]}, ValueError, r"LabelledPairs expects labels of shape \(N,\), got shape \(1, 4\)"),
        ({"items": N[:0], "labels": []}, ValueError, "expects labels of at least one item, got none"),
        ({"labels": [-1] * 4}, ValueError, r"at least one item, got 4 labels of -1 \(unlabeled\)"),
        ({"labels": [7] * 4}, ValueError, "expects at least 2 identities, got 1: there is no negative pair"),
        ({"labels": N}, ValueError, "2 items, got 4 identities with one item each: there is no positive pair"),
        ({"same": 1.1}, ValueError, r"LabelledPairs expects same to be in \[0, 1\], got 1.1"),
        ({"same": -0.1}, ValueError, r"LabelledPairs expects same to be in \[0, 1\], got -0.1"),
        ({"same": float("nan")}, ValueError, r"LabelledPairs expects same to be in \[0, 1\], got nan"),
        ({"same": True}, TypeError, "LabelledPairs expects same to be a number, got True"),
        ({"length": -1}, ValueError, "LabelledPairs expects length to be at least 0, got -1"),
        ({"draw": "item"}, ValueError, "unknown draw 'item': did you mean 'items'?"),
        ({"items": torch.tensor(1)}, ValueError, "items must hold tensors with one common first dimension"),
        ({"items": ["a", "b", "c", "d"]}, TypeError, "items must be a tensor, .* got str"),
        ({"items": DataLoader(TensorDataset(N))}, TypeError, "got DataLoader: pass its data set, loader.dataset"),
        ({"items": Dataset()}, TypeError, "or a data set with __getitem__ and __len__, got Dataset"),
        ({"items": iter(N)}, TypeError, "or a data set with __getitem__ and __len__, got "),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LabelledPairs(**{"items": N, "labels": [0, 0, 1, 1], "length": 1} | arguments)


def test_repr():
    options = "length=5, same=0.5, draw='identities', exclude_self=True, seed=0, transform=None"
    pairs = LabelledPairs(torch.zeros(4, 2), [0, 0, 1, -1], length=5)
    assert repr(pairs) == f"LabelledPairs(3 labeled items of 2 identities, {options})"
