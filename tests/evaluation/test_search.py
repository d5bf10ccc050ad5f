"""Search in galleries of n items: exact means over all galleries, against all galleries one by one."""

from itertools import combinations

import pytest
import torch
from evaluation.cases import comparator, labeled_items

import pairfuse as pf


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_rates_are_means_over_all_galleries(threshold):
    """For every query, every partner and every set of strangers."""
    items, labels = labeled_items(5, 2, noise=1.2)
    model = comparator()
    scores, size = model.score_matrix(items, items), 3
    limit = -torch.inf if threshold is None else threshold
    alarms, found = [], []
    for query in range(10):
        strangers = [j for j in range(10) if labels[j] != labels[query]]
        partner = next(j for j in range(10) if labels[j] == labels[query] and j != query)
        own = scores[query, partner]
        alarms += [max(scores[query, [*drawn]]) >= limit for drawn in combinations(strangers, size)]
        found += [own >= limit and own > max(scores[query, [*drawn]]) for drawn in combinations(strangers, size - 1)]
    report = pf.evaluate_search(model, items, labels, sizes=[size], threshold=threshold)
    assert report.false_alarms[size].value == pytest.approx(sum(map(float, alarms)) / len(alarms))
    assert report.identified[size].value == pytest.approx(sum(map(float, found)) / len(found))
    assert report.threshold == limit


def test_the_threshold_is_that_of_the_decision():
    """By default; and false alarms grow with the gallery."""
    items, labels = labeled_items(60)
    model = comparator()
    model.decision = pf.evaluate(model, items, labels).decide(far=0.01)
    report = pf.evaluate_search(model, items, labels)
    assert report.threshold == model.decision.threshold
    assert list(report.identified) == [10, 100]
    assert report.false_alarms[10].value < report.false_alarms[100].value
    assert report.identified[10].value > report.identified[100].value
    assert all(x.low < x.value < x.high for x in (*report.identified.values(), *report.false_alarms.values()))
    lines = str(report).splitlines()
    assert lines[0] == f"240 queries of 60 identities, score ≥ {report.threshold:.4g}"
    assert lines[2].split() == ["gallery", "own", "item", "found", "first", "a", "stranger", "found"]


def test_little_memory_changes_nothing():
    """Queries are scored in blocks."""
    items, labels = labeled_items(20)
    whole, blocks = (pf.evaluate_search(comparator(), items, labels, max_bytes=n) for n in (2**29, 100_000))
    assert whole == blocks


def test_of_many_partners_some_are_drawn():
    """An identity of 30 items costs no more than one of 9, and the rate is about that of all of them."""
    items, labels = labeled_items(6, 30)
    report = pf.evaluate_search(comparator(), items, labels, sizes=[10])
    scores = comparator().score_matrix(items, items)
    assert report.queries == 180
    assert 0.2 < report.identified[10].value < 0.9
    assert scores.shape == (180, 180)


def test_what_is_refused():
    """A gallery larger than there are strangers, and identities without a second item."""
    items, labels = labeled_items(6)
    with pytest.raises(ValueError, match=r"sizes of at most 20, the number of strangers .* got 21"):
        pf.evaluate_search(comparator(), items, labels, sizes=[21])
    with pytest.raises(ValueError, match=r"an identity with at least two items, got none"):
        pf.evaluate_search(comparator(), items, torch.arange(24))
    with pytest.raises(ValueError, match=r"each size to be at least 1, got 0"):
        pf.evaluate_search(comparator(), items, labels, sizes=[0])
