"""What cannot be evaluated: one clear error each."""

import pytest
import torch
from evaluation.cases import comparator, labeled_items
from torch import nn

import pairfuse as pf

ITEMS, LABELS = labeled_items(12)
Y = torch.arange(48) % 2
SCORES = torch.arange(48.0)


def two_outputs():
    """A comparator with two logits."""
    return pf.SiameseComparator(nn.Identity(), "product", nn.Linear(6, 2), embedding_dim=6)


class Doubled(pf.SiameseComparator):
    """A comparator whose score is not that of its parts."""

    def forward(self, x1, x2):
        return 2 * super().forward(x1, x2)


SETS = {
    "no comparator": (lambda: (nn.Linear(6, 1), ITEMS, LABELS), {}, TypeError, "SiameseComparator, got Linear"),
    "two outputs": (lambda: (two_outputs(), ITEMS, LABELS), {}, ValueError, "a head with one output, got 2"),
    "one identity": (
        *(lambda: (comparator(), ITEMS, 0 * LABELS), {}, ValueError),
        "1,128 positive and 0 negative ones: there is no negative pair",
    ),
    "no two of an identity": (lambda: (comparator(), ITEMS, torch.arange(48)), {}, ValueError, "no positive pair"),
    "labels too short": (lambda: (comparator(), ITEMS, LABELS[1:]), {}, ValueError, "47 labels and 48 items"),
    "float labels": (lambda: (comparator(), ITEMS, LABELS.float()), {}, TypeError, "integer dtype, got torch.float32"),
    "unlabeled": (lambda: (comparator(), ITEMS, 0 * LABELS - 1), {}, ValueError, "48 labels of -1"),
    "groups too short": (
        *(lambda: (comparator(), ITEMS, LABELS), {"groups": LABELS[1:]}, ValueError),
        "one group for each item, got 47 groups and 48 items",
    ),
    "half of a second set": (lambda: (comparator(), ITEMS, LABELS), {"items2": ITEMS}, TypeError, "items2 and labels2"),
    "groups of one set": (
        *(lambda: (comparator(), ITEMS, LABELS), {"items2": 1 * ITEMS, "labels2": LABELS, "groups": LABELS}, TypeError),
        "groups and groups2 together",
    ),
    "one set twice": (
        *(lambda: (comparator(), ITEMS, LABELS), {"items2": ITEMS, "labels2": LABELS}, TypeError),
        "two different sets, got items twice: leave items2 out",
    ),
    "torn identities": (
        *(lambda: (comparator(), ITEMS, LABELS), {"groups": torch.arange(48)}, ValueError),
        "groups of whole identities, got items of identity 0 in several groups",
    ),
    "unlabeled groups": (
        *(lambda: (comparator(), ITEMS, LABELS), {"groups": LABELS - 1}, ValueError),
        "groups of at least 0, got -1 for a labeled item",
    ),
    "a forward of its own": (
        *(lambda: (Doubled(nn.Identity(), "cosine", embedding_dim=6), ITEMS, LABELS), {}, TypeError),
        "use evaluate_pairs, which calls the model",
    ),
    "a wrapped model": (lambda: (nn.DataParallel(comparator()), ITEMS, LABELS), {}, TypeError, "pass its module"),
    "groups2 alone": (lambda: (comparator(), ITEMS, LABELS), {"groups2": LABELS}, TypeError, "groups2 only together"),
    "NaN": (lambda: (comparator(), ITEMS / 0 * 0, LABELS), {}, ValueError, "finite items, got 288 of 288"),
    "equal scores": (lambda: (comparator(), 0 * ITEMS + 1, LABELS), {}, ValueError, "scores that differ, got 1,128"),
    "far as a number": (lambda: (comparator(), ITEMS, LABELS), {"far": 0.1}, TypeError, r"write far=\(0.1,\)"),
    "far of 1": (lambda: (comparator(), ITEMS, LABELS), {"far": [1.0]}, ValueError, "each far to be above 0 and below"),
    "a low far": (lambda: (comparator(), ITEMS, LABELS), {"far": [1e-5]}, ValueError, "100,000 negative .*, got 1,056"),
    "confidence": (lambda: (comparator(), ITEMS, LABELS), {"confidence": 95}, ValueError, "confidence .* got 95"),
    "resamples": (lambda: (comparator(), ITEMS, LABELS), {"resamples": 5}, ValueError, "resamples to be at least 20"),
}


@pytest.mark.parametrize("name", SETS)
def test_sets(name):
    """What `evaluate` refuses."""
    arguments, options, error, words = SETS[name]
    with pytest.raises(error, match=words):
        pf.evaluate(*arguments(), **options)


def test_infinite_scores():
    """A head that overflows is named, not ranked."""
    model = comparator("product")
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    with pytest.raises(ValueError, match=r"evaluate expects finite scores, got .* NaN or infinite"):
        pf.evaluate(model, ITEMS, LABELS)


TRIALS = {
    "NaN": ((SCORES.clone().index_fill_(0, torch.tensor(3), torch.nan), Y), {}, ValueError, "finite scores, got 1 of"),
    "shape": ((SCORES[:, None], Y), {}, ValueError, r"scores of shape \(B,\), .* got shape \(48, 1\)"),
    "none": ((SCORES[:0], Y[:0]), {}, ValueError, r"got shape \(0,\)"),
    "targets": ((SCORES, Y * 2 - 1), {}, ValueError, r"y of 1 \(same\) and 0 \(different\), got values from -1 to 1"),
    "one kind": ((SCORES, Y * 0), {}, ValueError, "got 0 same and 48 different"),
    "targets too short": ((SCORES, Y[1:]), {}, ValueError, r"y of shape \(48,\)"),
    "equal": ((SCORES * 0, Y), {}, ValueError, "scores that differ, got 48 scores of 0"),
    "one group": ((SCORES, Y), {"groups1": Y}, TypeError, "groups1 and groups2 together"),
    "words": (([*"ab"] * 24, Y), {}, TypeError, "scores to be numbers, one for each pair, got list"),
    "complex": ((SCORES * 1j, Y), {}, TypeError, "real scores, got torch.complex64"),
    "groups too short": ((SCORES, Y), {"groups1": Y, "groups2": Y[1:]}, ValueError, "got 47 groups2 and 48 pairs"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_trials(name):
    """What `evaluate_scores` refuses."""
    arguments, options, error, words = TRIALS[name]
    with pytest.raises(error, match=words):
        pf.evaluate_scores(*arguments, **options)


def test_pairs():
    """What `evaluate_pairs` refuses beside that."""
    with pytest.raises(TypeError, match=r"evaluate_pairs expects model to be a SiameseComparator, got Identity"):
        pf.evaluate_pairs(nn.Identity(), ITEMS, ITEMS, Y)
    with pytest.raises(ValueError, match=r"one score for each pair, got shape \(48, 2\)"):
        pf.evaluate_pairs(two_outputs(), ITEMS, ITEMS, Y)


def test_folds():
    """Folds need items that can be indexed, and models from `fit`."""
    with pytest.raises(TypeError, match=r"items must be .* got generator"):
        pf.evaluate_folds(lambda train: comparator(), (x for x in ITEMS), LABELS)
    with pytest.raises(TypeError, match=r"evaluate_folds expects model to be a SiameseComparator, got NoneType"):
        pf.evaluate_folds(lambda train: None, ITEMS, LABELS)


def test_folds_of_one_model():
    """A model that is trained again would judge what it has seen; so would one of another kind."""
    model = comparator()
    with pytest.raises(ValueError, match="fit to return a new model each time, got one with the fusion or head of an"):
        pf.evaluate_folds(lambda train: model, ITEMS, LABELS)
    fusions = iter(["cosine", "product"])
    with pytest.raises(ValueError, match=r"models with one fusion and head, got Cosine.*, then Product"):
        pf.evaluate_folds(lambda train: comparator(next(fusions)), ITEMS, LABELS, folds=2)


def test_folds_keep_groups_together():
    """No group is on both sides of a fold."""
    groups, seen = LABELS // 2, []

    def fit(train):
        seen.append(set(groups[train].tolist()))
        return comparator()

    pf.evaluate_folds(fit, ITEMS, LABELS, groups=groups, folds=3)
    assert [len(known) for known in seen] == [4, 4, 4]


def test_searches():
    """What `evaluate_search` refuses, as `evaluate` does."""
    model = comparator("product")
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    with pytest.raises(ValueError, match="evaluate_search expects finite scores"):
        pf.evaluate_search(model, ITEMS, LABELS)
    with pytest.raises(ValueError, match="threshold to be a number, got NaN"):
        pf.evaluate_search(comparator(), ITEMS, LABELS, threshold=float("nan"))
    with pytest.raises(ValueError, match="items of at least two identities, got one"):
        pf.evaluate_search(comparator(), ITEMS, 0 * LABELS)


def test_whole_numbers_and_lists_keep_their_order():
    """Numbers that float32 cannot tell apart are judged in float64."""
    scores = 2**40 + torch.arange(100)
    y = torch.arange(100) // 50
    assert pf.evaluate_scores(scores, y).auc.value == 1
    assert pf.evaluate_scores((1 + 1e-9 * torch.arange(100, dtype=torch.float64)).tolist(), y.tolist()).auc.value == 1
    decision = pf.evaluate_scores(torch.arange(2000), torch.arange(2000) // 1000).decide(
        far=0.01, calibration="isotonic"
    )
    assert decision.logits(torch.tensor([999])).item() % 1 != 0
