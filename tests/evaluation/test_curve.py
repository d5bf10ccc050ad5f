"""The ROC curve and what is read from it, against scikit-learn and by counting."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import pairfuse as pf
from pairfuse.evaluation.curve import Curve, Sample

SCORES = st.lists(st.integers(-20, 20).map(lambda x: x / 8), min_size=1, max_size=40)


def curve_of(negative, positive, dtype=torch.float32):
    """The exact curve of two lists of scores."""
    return Curve(*(Sample(torch.tensor(sorted(x), dtype=dtype)) for x in (negative, positive)))


@given(SCORES, SCORES)
def test_it_is_that_of_scikit_learn(negative, positive):
    """Area, average precision, and the best TAR at each FAR equal those of scikit-learn to 1e-12, ties included."""
    curve = curve_of(negative, positive)
    y, scores = [0] * len(negative) + [1] * len(positive), [*negative, *positive]
    assert curve.auc() == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    assert curve.average_precision() == pytest.approx(average_precision_score(y, scores), abs=1e-12)
    far, tar, _ = roc_curve(y, scores, drop_intermediate=False)
    gap = far + tar - 1
    k = int(numpy.argmax(gap >= 0))
    weight = gap[k - 1] / (gap[k - 1] - gap[k])
    assert curve.equal_error()[0] == pytest.approx(far[k - 1] + weight * (far[k] - far[k - 1]), abs=1e-12)
    for wanted in (0.001, 0.05, 0.3, 0.9):
        assert curve.at_far(wanted).tar == pytest.approx(tar[far <= wanted].max(), abs=1e-12)


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_thresholds_have_the_rates_that_are_reported(negative, positive, far):
    """The rates at a threshold are the shares of scores of at least it, in the dtype of the scores."""
    curve = curve_of(negative, positive)
    for point in (curve.at_far(far), curve.at(curve.equal_error()[1]), curve.at(0.5)):
        for share, scores in ((point.far, negative), (point.tar, positive)):
            assert share == float((torch.tensor(scores) >= point.threshold).double().mean())
    assert curve.at_far(far).far <= far


@given(SCORES, SCORES)
def test_no_score_is_near_a_threshold(negative, positive):
    """A threshold lies half-way between two scores, so that rounding moves no pair across it."""
    curve = curve_of(negative, positive)
    threshold = curve.at_far(0.3).threshold
    if min(*negative, *positive) < threshold < max(*negative, *positive):
        assert min(abs(score - threshold) for score in (*negative, *positive)) >= 1 / 16


def test_it_is_the_lowest_threshold():
    """Between the negative score that may not be accepted and the next score of any kind."""
    assert curve_of([0.0, 1.0, 2.0, 3.0], [0.5, 2.5]).at_far(0.25).threshold == 2.25
    assert curve_of([0.0, 1.0, 2.0, 3.0], [2.5, 5.0]).at_far(0.01) == (4.0, 0.0, 0.5)


def test_if_no_positive_pair_scores_higher_nothing_is_accepted():
    """The threshold lies just above the best negative score."""
    point = curve_of([1.0, 2.0], [0.0]).at_far(0.1)
    assert point.far == point.tar == 0
    assert 2 < point.threshold < 2.001


def test_bins_bound_the_error_of_the_area():
    """Counted in bins, the area is within the bound of the exact one, and the rates at ends of bins are exact."""
    generator = torch.Generator().manual_seed(0)
    negative, positive = (torch.randn(500, generator=generator) + shift for shift in (0.0, 1.0))
    edges = torch.linspace(-5, 6, 30)
    counts = [torch.histogram(x, torch.cat([edges, torch.tensor([9.0])]))[0].long() for x in (negative, positive)]
    binned, exact = Curve(*(Sample(edges, x) for x in counts)), curve_of(negative.tolist(), positive.tolist())
    assert 0 < abs(binned.auc() - exact.auc()) <= binned.auc_error() < 0.05
    point = binned.at_far(0.1)
    assert exact.at(point.threshold) == point
    assert not binned.exact
    assert exact.auc_error() == 0


def test_a_report_of_scores_in_float64_keeps_them():
    """Scores that float32 cannot tell apart are told apart."""
    scores = torch.tensor([1.0, 1 + 1e-12, 1 + 2e-12, 1 + 3e-12], dtype=torch.float64)
    assert pf.evaluate_scores(scores, torch.tensor([0, 0, 1, 1])).auc.value == 1
