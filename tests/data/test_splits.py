"""Splits and folds that share no identity."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelings import labelings

import pairfuse as pf
from pairfuse.data import identity_folds, split_identities


def check_split(labels, train, test):
    """The sides share no identity and together have every labeled item once."""
    assert train.dtype == test.dtype == torch.int64
    assert not set(labels[train].tolist()) & set(labels[test].tolist())
    assert len(train) > 0
    assert len(test) > 0
    assert torch.equal(torch.cat([train, test]).sort().values, (labels != -1).nonzero()[:, 0])
    assert all(torch.equal(side, side.sort().values) for side in (train, test))


@given(labelings(), st.integers(-3, 3))
def test_no_identity_is_on_both_sides(labels, seed):
    """Singletons are split like all others, unlabeled items are left out, and one seed gives one split."""
    count = len(set(labels.tolist()) - {-1})
    train, test = split_identities(labels, test_size=0.5, seed=seed)
    check_split(labels, train, test)
    assert len(set(labels[test].tolist())) == -(-count // 2)
    assert all(
        torch.equal(*sides)
        for sides in zip((train, test), split_identities(labels, test_size=0.5, seed=seed), strict=True)
    )


@given(labelings(), st.integers(2, 5), st.integers(0, 3))
def test_each_identity_is_tested_in_one_fold(labels, folds, seed):
    identities = sorted(set(labels.tolist()) - {-1})
    splits = identity_folds(labels, folds=min(folds, len(identities)), seed=seed)
    for train, test in splits:
        check_split(labels, train, test)
    tested = [sorted(set(labels[test].tolist())) for _, test in splits]
    assert sorted(identity for part in tested for identity in part) == identities
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


def test_seeds_differ():
    labels = torch.arange(40)
    assert not torch.equal(split_identities(labels, seed=0)[1], split_identities(labels, seed=1)[1])
    assert not torch.equal(identity_folds(labels, seed=0)[0][1], identity_folds(labels, seed=1)[0][1])


@pytest.mark.parametrize("kind", [list, np.array, lambda labels: torch.tensor(labels, dtype=torch.uint8)])
def test_kinds_of_labels(kind):
    expected = split_identities(torch.tensor([4, 4, 9, 2]))
    assert all(torch.equal(*sides) for sides in zip(split_identities(kind([4, 4, 9, 2])), expected, strict=True))


LABELS = torch.tensor([0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([], ValueError, "expects labels of at least one item, got none"),
        (torch.empty(0), ValueError, "expects labels of at least one item, got none"),
        (LABELS.float(), TypeError, r"expects labels of an integer dtype, got torch.float32: use labels.long\(\)"),
        (LABELS == 1, TypeError, "expects labels of an integer dtype, got torch.bool"),
        (LABELS[:, None], ValueError, r"expects labels of shape \(N,\), got shape \(5, 1\)"),
        (5, ValueError, r"expects labels of shape \(N,\), got shape \(\)"),
        (["a", "b"], TypeError, "expects labels to be integers, one for each item, got list: number other labels with"),
        (np.array(["a", "b"]), TypeError, "expects labels to be integers, one for each item, got ndarray"),
        ([0, 1, -2], ValueError, r"expects labels of at least -1 \(-1 means unlabeled\), got -2"),
        ([3, 3, -1], ValueError, "expects at least 2 identities, got 1"),
        ([-1, -1], ValueError, "expects at least 2 identities, got 0"),
    ],
)
@pytest.mark.parametrize("function", [split_identities, identity_folds])
def test_bad_labels(function, labels, error, message):
    with pytest.raises(error, match=f"^{function.__name__} {message}"):
        function(labels)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: split_identities(LABELS, test_size=0.9),
            ValueError,
            "test_size=0.9 of 3 identities leaves none for tr",
        ),
        (
            lambda: split_identities(LABELS, test_size=0),
            ValueError,
            "test_size=0.0 of 3 identities leaves none for the",
        ),
        (
            lambda: split_identities(LABELS, test_size=0.3, validation_size=0.5),
            ValueError,
            "test_size=0.3 and validation_size=0.5 of 3 identities leaves none for training",
        ),
        (lambda: split_identities(LABELS, validation_size=0), ValueError, "of 3 identities leaves none for validation"),
        (lambda: split_identities(LABELS, validation_size="1"), TypeError, "validation_size to be a number, got '1'"),
        (lambda: split_identities(LABELS, test_size=2), ValueError, r"test_size to be in \[0, 1\], got 2"),
        (lambda: split_identities(LABELS, test_size="1"), TypeError, "test_size to be a number, got '1'"),
        (lambda: split_identities(LABELS, seed=0.5), TypeError, "split_identities expects seed to be an int, got 0.5"),
        (lambda: identity_folds(LABELS, folds=1), ValueError, "identity_folds expects folds to be at least 2, got 1"),
        (lambda: identity_folds(LABELS, folds=4), ValueError, r"at most 3 \(the number of identities\), got 4"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_scikit_learn(monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    with pytest.raises(ImportError, match=r"sklearn is not installed: pip install 'pairfuse\[data\]'"):
        pf.data.split_identities(LABELS)


@pytest.mark.parametrize(("count", "size", "due"), [(100, 0.07, 7), (50, 0.14, 7), (10, 0.25, 3), (1000, 0.001, 1)])
def test_the_share_is_rounded_up_without_rounding_errors(count, size, due):
    """0.07 * 100 is slightly more than 7 in floating point."""
    assert len(split_identities(torch.arange(count), test_size=size)[1]) == due


def test_three_parts():
    """No identity and no item is in two of them, the shares are of all identities, and the test side stays."""
    labels = torch.tensor([-1, *range(20), *range(20), *range(5)])
    parts = split_identities(labels, test_size=0.2, validation_size=0.3, seed=4)
    assert [len(labels[part].unique()) for part in parts] == [10, 6, 4]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1, len(labels)))
    assert torch.equal(labels[torch.cat([labels[part].unique() + 1 for part in parts])].sort().values, torch.arange(20))
    assert torch.equal(parts[2], split_identities(labels, test_size=0.2, seed=4)[1])
    assert all(torch.equal(part, part.sort().values) for part in parts)
