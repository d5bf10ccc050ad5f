"""Decisions: each rule picks the right threshold, calibration is right, and bad input is refused."""

import math

import pytest
import torch
from evaluation.cases import comparator, labeled_items
from torch import nn

import pairfuse as pf


@pytest.fixture(scope="module")
def scored():
    """Scores whose log odds are known: 2 s if half of all pairs are positive; targets; groups of 200 identities."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40_000) % 2
    scores = 2 * y - 1 + torch.randn(40_000, generator=generator)
    groups = torch.randint(200, (2, 40_000), generator=generator)
    return scores, y, groups


@pytest.fixture(scope="module")
def report(scored):
    """Their report."""
    scores, y, groups = scored
    return pf.evaluate_scores(scores, y, groups1=groups[0], groups2=groups[1])


def rates(scored, threshold):
    """FAR and TAR at a threshold, by counting."""
    scores, y, _ = scored
    return (float((scores[y == kind] >= threshold).double().mean()) for kind in (0, 1))


def test_a_far(report, scored):
    """The FAR is at most the given one, and a threshold one negative score lower would exceed it."""
    decision = report.decide(far=0.01)
    far, tar = rates(scored, decision.threshold)
    assert far == decision.far.value == 0.01
    assert tar == decision.tar.value
    assert decision.rule == {"far": 0.01}
    negative = scored[0][scored[1] == 0]
    assert next(rates(scored, float(negative[negative < decision.threshold].max()))) > 0.01


def test_a_far_that_is_surely_kept(report):
    """The upper end of the interval is at most the FAR, and the threshold is hardly higher than needed."""
    sure, plain = report.decide(far=0.01, sure=True), report.decide(far=0.01)
    assert sure.far.high <= 0.01 < plain.far.high
    assert sure.far.high > 0.0097
    assert sure.threshold > plain.threshold


def test_equal_errors(report):
    """FAR and miss rate are equal, up to one pair."""
    decision = report.decide(eer=True)
    assert decision.far.value == pytest.approx(1 - decision.tar.value, abs=1e-4)
    assert decision.threshold == report.eer_threshold


def test_a_cost(report):
    """For known log odds the best threshold is that of Bayes: odds of the prior, times the ratio of the costs."""
    decision = report.decide(cost=(5.0, 1.0, 0.2))
    assert 2 * decision.threshold == pytest.approx(math.log(5.0 * 0.8 / 0.2), abs=0.3)
    assert decision.prior == 0.2
    assert decision.rule == {"cost": [5.0, 1.0, 0.2]}


def test_a_cost_at_which_nothing_should_be_accepted():
    """If false matches cost too much, no pair is called the same."""
    scores = torch.arange(10.0)
    decision = pf.evaluate_scores(scores, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])).decide(cost=(1e6, 1.0, 1e-6))
    assert not decision.accepts(scores).any()


def test_a_precision(report):
    """The precision at the prior is reached, and hardly exceeded."""
    decision = report.decide(precision=0.9, prior=0.1)
    assert 0.9 <= decision.precision.value < 0.905
    right, wrong = 0.1 * decision.tar.value, 0.9 * decision.far.value
    assert decision.precision.value == pytest.approx(right / (right + wrong))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_are_calibrated(report, scored, method):
    """The calibrated logits are the known log odds."""
    decision = report.decide(far=0.01, calibration=method)
    at = torch.linspace(-1.5, 1.5, 13)
    assert torch.allclose(decision.logits(at), 2 * at, atol=0.1 if method == "platt" else 0.45)
    probability = decision.logits(scored[0]).sigmoid()
    for low in (0.1, 0.4, 0.7):
        some = (probability >= low) & (probability < low + 0.2)
        assert float(scored[1][some].double().mean()) == pytest.approx(float(probability[some].mean()), abs=0.025)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_another_prior_moves_the_logits_exactly(report, scored, method):
    """The posterior odds change by the ratio of the prior odds; the threshold stays."""
    decision = report.decide(far=0.01, calibration=method)
    moved = decision.at_prior(0.001)
    shift = moved.logits(scored[0].double()) - decision.logits(scored[0].double())
    assert torch.allclose(shift, torch.full_like(shift, torch.tensor(0.001 / 0.999).log().item()), atol=1e-6)
    assert moved.threshold == decision.threshold
    assert report.decide(far=0.01, prior=0.001, calibration=method) == moved


def test_scores_that_separate_the_pairs_get_finite_probabilities():
    """Without an error the calibration is as steep as the number of pairs allows, and no more."""
    items, labels = labeled_items(30, noise=0.01)
    report = pf.evaluate(comparator(), items, labels)
    for method in ("platt", "isotonic"):
        decision = report.decide(far=0.01, calibration=method)
        logits = decision.logits(torch.tensor([-100.0, 100.0]))
        assert logits.isfinite().all()
        if method == "isotonic":
            assert logits.abs().max() < 11


def test_the_order_of_scores_stays(report):
    """A higher score never gets a lower probability."""
    at = torch.linspace(-5, 5, 1001)
    for method in ("platt", "isotonic"):
        assert (report.decide(far=0.01, calibration=method).logits(at).diff() >= 0).all()


def test_a_model_answers_by_its_decision():
    """`same` compares with the threshold, `predict_proba` is calibrated, in eval mode."""
    items, labels = labeled_items(30)
    model = comparator().train()
    decision = pf.evaluate(model, items, labels).decide(far=0.01)
    logits = model(items[:60], items[60:])
    plain = model.predict_proba(items[:60], items[60:])
    model.decision = decision
    same = model.same(items[:60], items[60:], batch_size=7)
    assert same.dtype == torch.bool
    assert torch.equal(same, logits >= decision.threshold)
    assert torch.equal(model.predict_proba(items[:60], items[60:]), decision.logits(logits).sigmoid().detach())
    model.decision = None
    assert torch.equal(model.predict_proba(items[:60], items[60:]), plain)
    single = pf.SiameseComparator(nn.Identity(), "cosine", embedding_dim=6, item_ndim=1)
    single.load_state_dict(model.state_dict())
    single.decision = decision
    assert single.same(items[0], items[1]).shape == ()


def test_half_precision_compares_in_full():
    """A threshold between two scores of bfloat16 is not rounded to one of them."""
    decision = pf.evaluate_scores(torch.tensor([1.0, 1.0078125]).repeat(600), torch.arange(1200) % 2).decide(far=0.02)
    assert decision.accepts(torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16)).tolist() == [False, True]


REFUSED = {
    "no rule": ({}, TypeError, "exactly one of far, eer, cost and precision, got none"),
    "two rules": ({"far": 0.1, "eer": True}, TypeError, "got far, eer"),
    "FAR of 0": ({"far": 0.0}, ValueError, "far to be above 0 and below 1, got 0.0"),
    "FAR of 1": ({"far": 1}, ValueError, "far to be above 0 and below 1, got 1"),
    "a low FAR": ({"far": 1e-4}, ValueError, "at least 100,000 negative pairs for a FAR of 0.0001, .*got 20,000"),
    "sure without FAR": ({"eer": True, "sure": True}, TypeError, "expects far if sure=True"),
    "surely a low FAR": ({"far": 1e-5, "sure": True}, ValueError, "more identities .* got 200: even without a false"),
    "prior of 0": ({"far": 0.1, "prior": 0.0}, ValueError, "prior to be above 0 and below 1, got 0.0"),
    "unknown calibration": ({"far": 0.1, "calibration": "beta"}, ValueError, "'platt' or 'isotonic', got 'beta'"),
    "cost of two": ({"cost": (1, 2)}, TypeError, r"cost to be \(c_fa, c_miss, prior\), got \(1, 2\)"),
    "cost of 0": ({"cost": (0, 1, 0.5)}, ValueError, "c_fa of cost to be above 0 and finite, got 0"),
    "prior of cost": ({"cost": (1, 1, 1.5)}, ValueError, "prior of cost to be above 0 and below 1, got 1.5"),
    "too precise": ({"precision": 0.9999, "prior": 1e-9}, ValueError, "a precision that some threshold has .*highest"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(report, name):
    """One clear error each."""
    options, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        report.decide(**options)


def test_few_pairs_are_refused():
    """A FAR of 1e-4 from 300 negative pairs is an error that says how many are needed."""
    report = pf.evaluate_scores(torch.arange(600.0), torch.arange(600) % 2)
    with pytest.raises(ValueError, match=r"at least 100,000 negative pairs .* got 300: evaluate more items, or choose"):
        report.decide(far=1e-4)


def test_sure_needs_identities(scored):
    """Without groups the variance is unknown."""
    with pytest.raises(ValueError, match=r"evaluate the scores with groups1 and groups2"):
        pf.evaluate_scores(*scored[:2]).decide(far=0.01, sure=True)


def test_a_model_that_orders_pairs_the_wrong_way_round(scored):
    """Its calibration would decrease."""
    with pytest.raises(ValueError, match=r"orders the pairs the wrong way round"):
        pf.evaluate_scores(-scored[0], scored[1]).decide(far=0.01)


def test_decisions_of_another_model_are_refused():
    """A decision is for one fusion and head; that of plain scores fits any."""
    items, labels = labeled_items(30)
    decision = pf.evaluate(comparator("cosine"), items, labels).decide(far=0.05)
    other = comparator("squared-diff")
    with pytest.raises(ValueError, match=r"must be of this model's fusion and head, SquaredDiff.*scores of Cosine"):
        other.decision = decision
    with pytest.raises(TypeError, match=r"must be a Decision, as report.decide.* returns it, got float"):
        other.decision = 0.5
    with pytest.raises(ValueError, match=r"same expects a model with a decision, got none: set model.decision"):
        other.same(items, items)
    for rule in ({"cost": (1, 1, 0.1)}, {"precision": 0.5}):
        with pytest.raises(ValueError, match=r"got one for a (cost|precision): call report.decide again"):
            pf.evaluate(other, items, labels).decide(**rule).at_prior(0.1)


def test_a_decision_ends_with_its_head():
    """If the fusion or the head is replaced, nothing is decided by the old threshold."""
    items, labels = labeled_items(30)
    model = comparator("cosine")
    model.decision = pf.evaluate(model, items, labels).decide(far=0.05)
    model.head = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    calls = {
        "same": lambda: model.same(items, items),
        "predict_proba": lambda: model.predict_proba(items, items),
        "decider": model.decider,
        "matches": lambda: model.matches(items),
        "evaluate_search": lambda: pf.evaluate_search(model, items, labels),
    }
    for name, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"(?s){name} expects a decision of this model's fusion and head.*replaced"
        ):
            call()
    model.decision = None
    assert model.predict_proba(items, items).shape == (120,)


def test_classes_have_no_threshold():
    """A head with several outputs is not decided."""
    items, _ = labeled_items(30)
    model = pf.SiameseComparator(nn.Identity(), "product", nn.Linear(6, 3), embedding_dim=6)
    model.decision = pf.evaluate_scores(torch.arange(2000.0), torch.arange(2000) // 1000).decide(far=0.05)
    with pytest.raises(ValueError, match="same expects a head with one output, got 3"):
        model.same(items, items)
    assert torch.allclose(model.predict_proba(items, items).sum(1), torch.ones(120))


def test_the_wrong_way_round_is_refused_by_isotonic_calibration_too(scored):
    """It would be constant."""
    with pytest.raises(ValueError, match="orders the pairs the wrong way round"):
        pf.evaluate_scores(-scored[0], scored[1]).decide(far=0.01, calibration="isotonic")
    with pytest.raises(TypeError, match="no prior beside cost"):
        pf.evaluate_scores(*scored[:2]).decide(cost=(1, 1, 0.5), prior=0.1)
