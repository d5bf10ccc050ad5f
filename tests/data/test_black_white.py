"""Black/white pairs."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import pairfuse as pf
from pairfuse.data import BlackWhitePairs

TARGETS = {
    "same": lambda black1, black2: black1 == black2,
    "zero": lambda black1, black2: False,
    "first-is-black": lambda black1, black2: black1,
    "second-is-black": lambda black1, black2: black2,
}


def test_an_item():
    """Black is 0, white is 1, each over the whole image; all float32."""
    pairs = BlackWhitePairs(length=200, size=4, channels=2)
    for x1, x2, y in pairs:
        assert x1.shape == x2.shape == (2, 4, 4)
        assert y.shape == ()
        assert {x1.dtype, x2.dtype, y.dtype} == {torch.float32}
        assert x1.unique().tolist() in ([0.0], [1.0])
        assert x2.unique().tolist() in ([0.0], [1.0])


@pytest.mark.parametrize("target", TARGETS)
def test_targets(target):
    for x1, x2, y in BlackWhitePairs(length=50, size=1, target=target):
        assert y.item() == float(TARGETS[target](x1.max() == 0, x2.max() == 0))


@pytest.mark.parametrize("target", TARGETS)
def test_truth_table(target):
    """Black/black, black/white, white/black, white/white."""
    x1, x2, y = table = BlackWhitePairs(size=3, channels=1, target=target).truth_table()
    assert x1.shape == x2.shape == (4, 1, 3, 3)
    assert table.x1[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert table.x2[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    colors = [(False, False), (False, True), (True, False), (True, True)]
    assert y.tolist() == [float(TARGETS[target](not left, not right)) for left, right in colors]


def test_all_four_pairs_are_equally_frequent():
    pairs = BlackWhitePairs(length=4000, size=1, channels=1)
    kinds = torch.tensor([2 * x1.item() + x2.item() for x1, x2, _ in pairs])
    counts = torch.bincount(kinds.long(), minlength=4)
    assert (counts > 900).all()  # 1000 ± 27


def test_an_item_depends_on_seed_and_index_alone():
    def bits(seed, length=64):
        return [(x1.item(), x2.item()) for x1, x2, _ in BlackWhitePairs(length, size=1, channels=1, seed=seed)]

    state = torch.get_rng_state()
    first = bits(0)
    torch.rand(5)
    assert bits(0) == first
    assert bits(0, length=100)[:64] == first
    assert bits(1) != first
    assert bits(1)[:-1] != first[1:]  # neighboring seeds are not shifted copies
    torch.set_rng_state(state)
    bits(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_agree():
    pairs = BlackWhitePairs(length=24, size=2)
    alone = [y for _, _, batch in DataLoader(pairs, batch_size=5) for y in batch.tolist()]
    shared = [y for _, _, batch in DataLoader(pairs, batch_size=5, num_workers=2) for y in batch.tolist()]
    assert alone == shared == [y.item() for _, _, y in pairs]


def test_transforms_of_torchvision():
    """The transform gets each image by itself, in items and in the truth table."""
    transform = v2.Compose([v2.Resize(8), v2.CenterCrop(6), v2.Normalize([0.5], [0.5])])
    pairs = BlackWhitePairs(length=4, size=16, channels=1, transform=transform)
    x1, x2, _ = pairs[0]
    assert x1.shape == x2.shape == (1, 6, 6)
    assert pairs.truth_table().x1[:, 0, 0, 0].tolist() == [-1, -1, 1, 1]
    assert pairs.truth_table().x2[:, 0, 0, 0].tolist() == [-1, 1, -1, 1]


def test_length_and_index():
    pairs = BlackWhitePairs(length=3, size=1)
    assert len(pairs) == 3
    assert len(list(pairs)) == 3
    assert len(BlackWhitePairs(length=0)) == 0
    many = pf.data.BlackWhitePairs(20, size=1)
    assert all(torch.equal(many[i - 20][side], many[i][side]) for i in range(20) for side in (0, 1))
    assert torch.equal(pairs[np.int64(1)][0], pairs[1][0])
    for index in (1.0, slice(2), None):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            pairs[index]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"BlackWhitePairs has 3 pairs, got index {index}"):
            pairs[index]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"length": -1}, ValueError, "BlackWhitePairs expects length to be at least 0, got -1"),
        ({"length": 1.5}, TypeError, "BlackWhitePairs expects length to be an int, got 1.5"),
        ({"size": 0}, ValueError, "BlackWhitePairs expects size to be at least 1, got 0"),
        ({"seed": 1.0}, TypeError, "BlackWhitePairs expects seed to be an int, got 1.0"),
        ({"channels": 0}, ValueError, "BlackWhitePairs expects channels to be at least 1, got 0"),
        ({"target": None}, ValueError, "unknown target None: The names are: same, zero"),
        ({"target": "sam"}, ValueError, "unknown target 'sam': did you mean 'same'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        BlackWhitePairs(**arguments)


def test_repr():
    arguments = "length=2, size=128, channels=3, seed=0, target='same', transform=None"
    assert repr(pf.data.BlackWhitePairs(2)) == f"BlackWhitePairs({arguments})"
