"""Intervals: resampled identities and adjusted variances, against plain loops over all pairs."""

import math

import pytest
import torch
from evaluation.cases import comparator, labeled_items
from scipy.stats import t
from sklearn.metrics import roc_auc_score

import pairfuse as pf
from pairfuse.decisions.estimate import wilson
from pairfuse.evaluation.intervals import LEFT_OUT, Merged, Resamples, rates, t_quantile
from pairfuse.evaluation.table import MAX_UNITS, Bins, FastBins, UnitTable, number_units

UNITS = 16


@pytest.fixture
def pairs():
    """Pairs with scores on a coarse grid, so that no two of them share a bin: scores, targets, units of both sides."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(UNITS, (1200,), generator=generator) for _ in range(2))
    y = (left == right).int()
    scores = (torch.randn(1200, generator=generator) + 1.2 * y).mul(2).round() / 2
    return scores, y, left, right


def table_of(scores, y, left, right):
    """The table of pairs, and its bins merged."""
    table = UnitTable(UNITS, Bins(scores, scores[y == 1], most=512), len(scores))
    table.add(scores, left, right, y == 1)
    return table, Merged(table, table.bins.lower.double())


def test_a_resample_counts_pairs_by_how_often_their_units_were_drawn(pairs):
    """The area of each resample is the weighted area of the pairs; so is that without each unit."""
    scores, y, left, right = pairs
    table, merged = table_of(*pairs)
    found = Resamples(table, merged, 5, torch.Generator().manual_seed(3), 0.95, 2.0).auc()
    drawn = torch.randint(UNITS, (5, UNITS), generator=torch.Generator().manual_seed(3))
    times = [torch.ones(UNITS), *(1 - torch.eye(UNITS)), *(torch.bincount(x, minlength=UNITS) for x in drawn)]
    assert len(found) == len(times)
    for area, weight in zip(found, times, strict=True):
        pair = torch.where(left == right, weight[left], weight[left] * weight[right])
        assert float(area) == pytest.approx(roc_auc_score(y, scores, sample_weight=pair), abs=1e-6)


def test_all_statistics_of_the_sample_itself(pairs):
    """The first entry of each statistic is that of the exact curve."""
    scores, y, *_ = pairs
    table, merged = table_of(*pairs)
    resamples = Resamples(table, merged, 20, torch.Generator(), 0.95, 2.0)
    report = pf.evaluate_scores(scores, y)
    assert float(resamples.auc()[0]) == pytest.approx(report.auc.value, abs=1e-6)
    assert float(resamples.average_precision()[0]) == pytest.approx(report.average_precision.value, abs=1e-6)
    assert float(resamples.equal_error()[0]) == pytest.approx(report.eer.value, abs=1e-6)


@pytest.mark.parametrize("positive", [False, True])
def test_the_variance_of_a_share_is_that_of_a_loop(pairs, positive):
    """The effect of the dependence equals a loop over all pairs of pairs that share a unit, and over left-out units."""
    scores, y, left, right = pairs
    table, merged = table_of(*pairs)
    found = rates(table, merged, merged.positive if positive else merged.negative, 0.95)
    some = y == int(positive)
    reached = (scores[some] >= 0.5).double()
    units = torch.stack([left[some], right[some]])
    n, share = len(reached), reached.mean()
    touching = (units[:, None, :, None] == units[None, :, None, :]).any(0).any(0)
    deviation = reached - share
    shared = (deviation[:, None] * deviation * touching).sum() / (n**2 - touching.sum())
    without = torch.stack([reached[(units != unit).all(0)].mean() for unit in range(UNITS)])
    left_out = (without - without.mean()).square().sum() * (UNITS - 1) / UNITS
    mixed = min(1, LEFT_OUT / UNITS)
    expected = ((1 - mixed) * shared.clamp_min(0) + mixed * left_out) / (share * (1 - share) / n)
    level = int(torch.searchsorted(found.lower, torch.tensor(0.5), right=True)) - 1
    assert float(found.effect[level]) == pytest.approx(max(1.0, float(expected)), rel=1e-5)
    low, high = found.interval(float(share), 0.5)
    pairs = torch.bincount(units.flatten(), minlength=UNITS).double()
    same = torch.bincount(units[0][units[0] == units[1]], minlength=UNITS)
    pairs -= same  # a pair within a unit counts once
    assert found.units == pytest.approx(float(pairs.sum() ** 2 / pairs.square().sum()))
    assert found.quantile == pytest.approx(t.ppf(0.975, found.units - 1), rel=1e-3)
    assert (low, high) == wilson(float(share), n / float(found.effect[level]), found.quantile)


def test_wilson_is_the_solution_of_its_equation():
    """At both ends the share lies the given number of standard errors away."""
    for end in wilson(0.1, 50, 1.96):
        assert abs(0.1 - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / 50))
    assert wilson(0.0, 10, 1.96)[0] == 0
    assert wilson(1.0, 10, 1.96)[1] == 1


@pytest.mark.parametrize("freedom", [3, 9, 29, 99])
def test_quantiles_of_student(freedom):
    """They equal those of SciPy to 1 %, and much better from ten units on."""
    assert t_quantile(0.95, freedom) == pytest.approx(t.ppf(0.975, freedom), rel=0.01 if freedom < 9 else 1e-4)


def test_few_errors_are_said_and_have_an_interval():
    """Without an error the interval is not [1, 1]: Wilson's is used, and the text gives a bound instead of digits."""
    items, labels = labeled_items(30, noise=0.01)
    report = pf.evaluate(comparator(), items, labels)
    assert report.auc.value == 1
    assert 0.5 < report.auc.low < 0.999
    assert report.auc.note == "0 errors"
    assert str(report.auc).startswith("at least 0.")
    assert str(report.eer).startswith("at most 0.")


def test_few_identities_are_said():
    """With four identities no digits are printed."""
    items, labels = labeled_items(4, 10)
    report = pf.evaluate(comparator(), items, labels)
    assert str(report.auc).startswith("between 0.")
    assert str(report.auc).endswith("(4 identities)")


def test_pairs_are_not_independent():
    """The interval of a FAR is far wider than that of as many independent pairs."""
    items, labels = labeled_items(30, 6)
    report = pf.evaluate(comparator(), items, labels)
    far, _ = report.at(report.thresholds[0.1])
    low, high = wilson(far.value, report.negatives, 1.96)
    assert far.high - far.low > 3 * (high - low)


def test_duplicated_items_add_nothing():
    """If every item is there four times, the interval stays about as wide."""
    items, labels = labeled_items(40, 4)
    once, often = (pf.evaluate(comparator(), items.repeat(k, 1), labels.repeat(k)).at(1.0)[0] for k in (1, 4))
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.2)


def test_more_units_than_groups_are_put_together():
    """Units become at most `MAX_UNITS` groups of about one size, as the generator draws them."""
    units = torch.arange(250).repeat(2)
    numbers, count = number_units(units, torch.Generator().manual_seed(0))
    assert count == MAX_UNITS
    assert torch.equal(numbers[:250], numbers[250:])
    assert set(torch.bincount(numbers[:250]).tolist()) == {2, 3}
    few, count = number_units(torch.tensor([7, -1, 7]), torch.Generator())
    assert (few.tolist(), count) == ([1, 0, 1], 2)


SPREADS = {
    "plain": lambda x: x,
    "far from 0": lambda x: 1000 + x,
    "outliers": lambda x: torch.cat([x, x.new_tensor([-1e9, 1e6])]),
    "tiny": lambda x: x * 1e-40,
    "huge": lambda x: x * 1e37,
    "double": lambda x: x.double(),
    "double with outliers": lambda x: torch.cat([x.double(), torch.tensor([1e200], dtype=torch.float64)]),
    "ties": lambda x: x.round(),
}


@pytest.mark.parametrize("kind", [Bins, FastBins])
@pytest.mark.parametrize("spread", SPREADS)
def test_ends_of_bins_hold_what_they_say(kind, spread):
    """Every score is placed by the ends of the bins, in spite of rounding; no bin holds more than its share."""
    scores = SPREADS[spread](torch.randn(5000, generator=torch.Generator().manual_seed(0)))
    bins = kind(scores, scores[:300], 512)
    at = torch.cat([scores, bins.lower, torch.nextafter(bins.lower[1:], torch.full_like(bins.lower[1:], -torch.inf))])
    expected = (torch.searchsorted(bins.lower, at, right=True) - 1).clamp_min(0)
    assert torch.equal(bins.place(at).long(), expected)
    assert (bins.lower.diff() > 0).all()
    if spread not in ("ties", "tiny") or (spread == "tiny" and kind is Bins):
        assert torch.bincount(bins.place(scores).long()).max() < 50


def test_an_outlier_changes_no_interval():
    """Bins follow the ranks of the scores."""
    groups = torch.arange(2000)
    y = groups % 2
    scores = torch.randn(2000, generator=torch.Generator().manual_seed(0)) + y
    plain = pf.evaluate_scores(scores, y, groups1=groups, groups2=groups)
    scores[0] = -1e9
    odd = pf.evaluate_scores(scores, y, groups1=groups, groups2=groups)
    for one, other in ((plain.auc, odd.auc), (plain.tar[0.1], odd.tar[0.1]), (plain.eer, odd.eer)):
        assert other.low == pytest.approx(one.low, abs=0.005)
        assert other.high == pytest.approx(one.high, abs=0.005)
    squeezed = pf.evaluate_scores((4 * scores.double()).exp(), y, groups1=groups, groups2=groups)
    assert squeezed.auc.low == pytest.approx(odd.auc.low, abs=0.003)


def test_one_identity_that_holds_most_pairs_is_few():
    """A hundred identities of which one has nearly all positive pairs are about one."""
    labels = torch.cat([torch.zeros(60, dtype=torch.long), 1 + torch.arange(198) // 2])
    items = torch.randn(258, 6, generator=torch.Generator().manual_seed(0))
    report = pf.evaluate(comparator(), items + labeled_items(100, 1)[0][labels], labels)
    assert report.identities == 100
    assert report.auc.note == "1 identity"
    assert report.auc.high - report.auc.low > 0.15


def test_two_identities_have_no_width():
    """Most resamples lack positive or negative pairs: nothing is known, which the interval says."""
    items, labels = labeled_items(2, 3, noise=3.0)
    report = pf.evaluate(comparator(), items, labels)
    assert (report.auc.low, report.auc.high) == (0, 1) or report.auc.high - report.auc.low > 0.5
    assert str(report.log_loss).endswith("(2 identities)")
    assert math.isnan(report.log_loss.low)
    groups = torch.arange(600) % 2
    odd = pf.evaluate_scores(torch.randn(600), groups, groups1=groups, groups2=groups)
    assert (odd.auc.low, odd.auc.high) == (odd.average_precision.low, odd.average_precision.high) == (0, 1)
    one = pf.evaluate(comparator(), items, labels, groups=0 * labels)
    assert str(one.auc).endswith("(1 identity)")
    assert "groups1" not in str(one)


def test_the_calibration_error_of_calibrated_scores_may_be_near_0():
    """Noise only increases it, so the interval lies below the figure rather than above."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(2000, generator=generator)
    y = (torch.rand(2000, generator=generator) < logits.sigmoid()).long()
    groups = torch.arange(2000)
    error = pf.evaluate_scores(logits, y, groups1=groups, groups2=groups + 2000).calibration_error
    assert error.low < 0.006 < error.value <= error.high


def test_the_default_dtype_does_not_matter():
    """Nothing is made in the default dtype of torch."""
    items, labels = labeled_items(12)
    model = comparator()
    expected = pf.evaluate(model, items, labels)
    torch.set_default_dtype(torch.float64)
    try:
        assert pf.evaluate(model, items, labels).auc == expected.auc
    finally:
        torch.set_default_dtype(torch.float32)
