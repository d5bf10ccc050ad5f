"""Evaluation of all pairs: it looks at each pair once, whatever the model, the sets and the memory."""

import pytest
import torch
from evaluation.cases import comparator, labeled_items, one_by_one
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pairfuse as pf
from pairfuse.evaluation import pairs
from pairfuse.evaluation.table import Bins, UnitTable

MODELS = {
    "symmetric": lambda: comparator("cosine"),
    "asymmetric": lambda: comparator("bilinear"),
    "hidden layer": lambda: comparator("sbert", head="mlp"),
    "untied": lambda: pf.SiameseComparator(nn.Linear(6, 3), "product", right_encoder=nn.Linear(6, 3)),
}


def assert_same(report, scores, y):
    """The figures are those of scikit-learn on the pairs, up to the rounding of the scores."""
    assert (report.positives, report.negatives) == (int(y.sum()), int((1 - y).sum()))
    assert report.exact
    assert report.auc.value == pytest.approx(roc_auc_score(y, scores), abs=1e-4)
    assert report.average_precision.value == pytest.approx(average_precision_score(y, scores), abs=1e-3)
    weights = torch.where(y == 1, 1 / y.sum(), 1 / (1 - y).sum())
    probability = scores.double().sigmoid()
    assert report.log_loss.value == pytest.approx(log_loss(y, probability, sample_weight=weights), rel=1e-4)
    assert report.brier.value == pytest.approx(brier_score_loss(y, probability, sample_weight=weights), rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_all_pairs_of_a_set(name):
    """A symmetric model gets each pair once, others get both orders; no item meets itself."""
    torch.manual_seed(0)
    model = MODELS[name]()
    items, labels = labeled_items(12)
    scores = model.score_matrix(items, items)
    assert_same(pf.evaluate(model, items, labels), *one_by_one(scores, labels, halved=model.symmetric)[:2])


@pytest.mark.parametrize("name", MODELS)
def test_all_pairs_of_two_sets(name):
    """With two sets every pair counts, also of an item with itself."""
    torch.manual_seed(0)
    model = MODELS[name]()
    (items, labels), (items2, labels2) = labeled_items(12), labeled_items(14, 2)
    report = pf.evaluate(model, items, labels, items2=items2, labels2=labels2)
    assert_same(report, *one_by_one(model.score_matrix(items, items2), labels, labels2)[:2])
    assert (report.items, report.identities) == (48 + 28, 14)


@pytest.mark.parametrize(("identities", "each"), [(250, 2), (3, 60), (120, 1)])
def test_many_identities_and_large_ones(identities, each, monkeypatch):
    """More identities than units, identities larger than a tile, and identities with one item."""
    monkeypatch.setattr(pairs, "TILE_PAIRS", 64)
    monkeypatch.setattr(pairs, "TILE_ROWS", 7)
    items, labels = labeled_items(identities, each)
    items, labels = torch.cat([items, items[:1] + 0.1]), torch.cat([labels, labels[:1]])
    model = comparator()
    scores = model.score_matrix(items, items)
    assert_same(pf.evaluate(model, items, labels), *one_by_one(scores, labels, halved=True)[:2])


@pytest.mark.parametrize("fusion", ["cosine", "bilinear"])
def test_groups_of_identities(fusion):
    """Groups change the intervals, not the figures."""
    torch.manual_seed(0)
    model = comparator(fusion)
    items, labels = labeled_items(36)
    report = pf.evaluate(model, items, labels, groups=labels // 3)
    assert_same(report, *one_by_one(model.score_matrix(items, items), labels, halved=model.symmetric)[:2])
    assert report.identities == 12
    assert report.auc.high - report.auc.low != pytest.approx(0.05)


def test_unlabeled_items_are_left_out():
    """Items with the label -1 are in no pair."""
    items, labels = labeled_items(12)
    labels[::5] = -1
    known = labels >= 0
    got = pf.evaluate(comparator(), items, labels)
    assert got.to_dict() == pf.evaluate(comparator(), items[known], labels[known]).to_dict()
    assert got.items == int(known.sum())


def test_data_sets_and_loaders():
    """Items may be a data set of items and labels, or a loader."""
    items, labels = labeled_items(12)
    expected = pf.evaluate(comparator(), items, labels).to_dict()
    data = TensorDataset(items, labels)
    assert pf.evaluate(comparator(), data, labels).to_dict() == expected
    assert pf.evaluate(comparator(), DataLoader(data, batch_size=7), labels.tolist()).to_dict() == expected


def test_the_seed_decides():
    """The same seed gives the same intervals; another one gives others, and the same figures."""
    items, labels = labeled_items(12)
    first, again, other = (pf.evaluate(comparator(), items, labels, seed=seed) for seed in (0, 0, 1))
    assert first.to_dict() == again.to_dict()
    assert first.auc != other.auc
    assert first.auc.value == other.auc.value


def test_little_memory_counts_in_bins():
    """If the scores do not fit, they are counted: FAR and TAR stay exact, the area is within its bound."""
    items, labels = labeled_items(150)
    model = comparator()
    exact = pf.evaluate(model, items, labels)
    binned = pf.evaluate(model, items, labels, max_bytes=400_000)
    assert exact.exact
    assert not binned.exact
    assert "counted in bins" in str(binned)
    assert "counted in bins" not in str(exact)
    assert abs(exact.auc.value - binned.auc.value) <= binned.auc_error < 3e-4
    for far in (1e-3, 1e-2, 1e-1):
        rates = exact.at(binned.thresholds[far])
        assert rates[1].value == pytest.approx(binned.tar[far].value, abs=1e-9)
        assert rates[0].value <= far
        assert binned.tar[far].value == pytest.approx(exact.tar[far].value, abs=0.02)
    for name in ("average_precision", "eer", "log_loss", "brier", "calibration_error"):
        assert getattr(binned, name).value == pytest.approx(getattr(exact, name).value, abs=3e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    """Half precision is judged by its rounded scores, double precision by its own."""
    items, labels = labeled_items(20)
    report = pf.evaluate(comparator().to(dtype), items.to(dtype), labels)
    assert report.auc.value == pytest.approx(pf.evaluate(comparator(), items, labels).auc.value, abs=5e-3)


def test_more_pairs_than_32_bits_count():
    """Then counts have 64 bits."""
    table = UnitTable(2, Bins(torch.rand(9), torch.rand(9), most=5), 2**31)
    table.add_negative_tile(torch.rand(3, 4), torch.tensor(0), torch.tensor([0, 0, 1, 1]))
    assert table.negative.dtype == torch.int64
    assert table.negative.sum(1).tolist() == [6, 6, 0]


def test_a_very_low_far_is_counted():
    """A FAR of one in 100,000 is read off all negative pairs."""
    items, labels = labeled_items(250)
    report = pf.evaluate(comparator(), items, labels, far=[1e-5])
    assert report.negatives > 490_000
    scores, y, *_ = one_by_one(comparator().score_matrix(items, items), labels, halved=True)
    accepted = int((scores[y == 0] >= report.thresholds[1e-5]).sum())
    assert accepted == int(1e-5 * report.negatives)


def test_the_model_is_left_as_it_was():
    """Mode, statistics and random state stay, and no gradient is kept."""
    encoder = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout())
    model = pf.SiameseComparator(encoder, "product", embedding_dim=6).train()
    items, labels = labeled_items(12)
    before, state = torch.get_rng_state(), {name: x.clone() for name, x in model.state_dict().items()}
    pf.evaluate(model, items, labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


def test_folds_judge_each_identity_by_a_model_that_never_saw_it():
    """All items are judged once, by the model that was trained without their identity."""
    items, labels = labeled_items(20)
    seen = []

    def fit(train):
        seen.append(set(labels[train].tolist()))
        assert torch.is_grad_enabled()
        return comparator()

    report = pf.evaluate_folds(fit, TensorDataset(items, labels), labels, folds=4)
    assert len(seen) == 4
    assert sorted(identity for known in seen for identity in set(range(20)) - known) == list(range(20))
    assert report.positives == 20 * 6
    assert report.negatives == 4 * (5 * 4 * 16) // 2
    assert report.identities == 20
    of_items = pf.evaluate_folds(lambda train: comparator(), items, labels, folds=4)
    assert of_items.to_dict() == report.to_dict()


def test_pairs_and_scores_are_judged_alike():
    """`evaluate_pairs` is `evaluate_scores` of the model's logits, in eval mode."""
    items, labels = labeled_items(12)
    left, right = torch.triu_indices(48, 48, 1)
    y = (labels[left] == labels[right]).float()
    model = comparator().train()
    groups = {"groups1": labels[left], "groups2": labels[right]}
    report = pf.evaluate_pairs(model, items[left], items[right], y, batch_size=100, **groups)
    scores = pf.evaluate_scores(model(items[left], items[right]).detach().numpy(), y.int().numpy(), **groups)
    assert {**report.to_dict(), "comparison": ""} == scores.to_dict()
    whole = pf.evaluate(model, items, labels)
    assert report.auc.value == pytest.approx(whole.auc.value, abs=1e-4)
    assert report.auc.low == pytest.approx(whole.auc.low, abs=0.01)


def test_without_groups_there_are_no_intervals():
    """Pairs depend on each other in an unknown way, which the report says."""
    items, labels = labeled_items(12)
    scores, y, *_ = one_by_one(comparator().score_matrix(items, items), labels)
    report = pf.evaluate_scores(scores, y)
    assert torch.tensor([report.auc.low, report.eer.high, report.tar[0.1].low]).isnan().all()
    assert "No intervals: pass the identities" in str(report)


def test_decisions_calibrate_the_probabilities_of_a_report():
    """With a decision the log loss is that of `predict_proba`."""
    items, labels = labeled_items(40)
    model = comparator()
    before = pf.evaluate(model, items, labels)
    model.decision = before.decide(far=0.01)
    after = pf.evaluate(model, items, labels)
    assert after.log_loss.value < before.log_loss.value
    left, right = torch.triu_indices(160, 160, 1)
    y = (labels[left] == labels[right]).float()
    losses = nn.functional.binary_cross_entropy(model.predict_proba(items[left], items[right]), y, reduction="none")
    assert after.log_loss.value == pytest.approx(float((losses[y == 1].mean() + losses[y == 0].mean()) / 2), rel=1e-3)
