"""`solve_head`: what it solves, how it shrinks and calibrates, and what it refuses."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import pairfuse as pf
from pairfuse.solving.calibrating import fit_platt
from pairfuse.solving.held_out import Placements, draw_different, draw_held_out, fold_of_items
from tests.solving.brute_force import brute_force

WIDTH = 12


def draw_items(identities, each, seed=0, noise=2.0):
    """Identities around means, with more noise in some coordinates, and an offset."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(identities * each) // each
    means = torch.randn(identities, WIDTH, generator=generator)
    items = means[labels] + torch.linspace(0.1, noise, WIDTH) * torch.randn(len(labels), WIDTH, generator=generator)
    return items + 1, labels


def comparator(fusion="product", **options):
    return pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=WIDTH, **options)


TRAIN, TEST = draw_items(150, 4), draw_items(80, 4, seed=1)


@pytest.mark.parametrize("fusion", ["product", "squared-diff", ["cosine", "product"], "abs-diff", "max", "quadratic"])
def test_solving_helps_on_new_identities(fusion):
    """The solved head is no worse than the unlearned comparison, and much better for the two-covariance model."""
    model = comparator(fusion)
    report = model.solve_head(*TRAIN)
    auc = pf.evaluate(model, *TEST, resamples=20).auc.value
    unlearned = comparator(fusion)
    unlearned.solve_head(*TRAIN, shrinkage=1)
    before = pf.evaluate(unlearned, *TEST, resamples=20).auc.value
    assert auc > before - 0.005
    assert abs(auc - report.auc) < 0.05
    assert report.auc >= report.unlearned_auc - 1e-3
    if fusion in ("quadratic", "squared-diff"):
        assert auc > before + 0.03


def test_the_solution_is_least_squares_over_every_pair():
    """Without shrinkage the head is proportional to the weighted least-squares solution by brute force."""
    items, labels = draw_items(20, 3)
    model = comparator("product").double()
    model.solve_head(items.double(), labels, shrinkage=0, same_prior=0.3)
    fusion, scale = pf.fusions.Product(WIDTH), float(model.embedding_scale)
    _, same, different = brute_force(fusion, items, labels, scale=scale)
    gram = 0.3 * same[2] + 0.7 * different[2]
    mean, target = 0.3 * same[1] + 0.7 * different[1], 0.3 * same[1]  # of features; of features times the target
    solution = torch.linalg.solve(gram - mean[:, None] * mean, target - 0.3 * mean)
    found = model.head.weight[0].detach()
    torch.testing.assert_close(found / found.norm(), solution / solution.norm(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", ["product", "squared-diff", "abs-diff", "cosine"])
def test_full_shrinkage_is_the_unlearned_comparison(fusion):
    """Then all weights are equal, with the sign of a similarity or a distance, and none goes to zero."""
    model = comparator(fusion)
    report = model.solve_head(*TRAIN, shrinkage=1)
    weights = model.head.weight[0].detach()
    torch.testing.assert_close(weights, weights[:1].expand_as(weights))
    assert (weights[0] < 0) == (fusion in ("squared-diff", "abs-diff"))
    assert report.kept
    assert report.shrinkage == 1


def test_strong_shrinkage_comes_close_to_it():
    """The path leads to the unlearned comparison and not to zero."""
    model = comparator("product")
    model.solve_head(*TRAIN, shrinkage=0.9999)
    weights = model.head.weight[0].detach()
    torch.testing.assert_close(weights / weights.mean(), torch.ones(WIDTH), rtol=0.02, atol=0.02)


def test_few_identities_keep_the_unlearned_comparison():
    """Three identities cannot be held out: the order of the scores is that of the inner product, and it is said."""
    items, labels = draw_items(3, 5)
    model = comparator("product")
    report = model.solve_head(items, labels)
    assert report.kept
    assert math.isnan(report.auc)
    assert "too few to hold some out" in str(report)
    scores = torch.stack([x.flatten() for x in (model.score_matrix(items, items), items @ items.T)])
    assert torch.corrcoef(scores)[0, 1] > 0.9999
    quadratic = comparator("quadratic")
    assert quadratic.solve_head(items, labels).kept
    assert bool((quadratic.fusion.p == 2 * torch.eye(WIDTH)).all())


def test_noise_is_not_learned():
    """Where labels mean nothing, or as little as possible, the unlearned comparison stays."""
    items, labels = draw_items(12, 3, noise=0.01)  # nothing is left to gain
    assert comparator("product").solve_head(items, labels, seed=1).auc >= 0.9
    report = comparator("squared-diff").solve_head(items, labels)
    assert report.kept


@pytest.mark.parametrize("prior", [0.5, 0.02])
def test_probabilities_are_calibrated_for_the_prior(prior):
    """On identities that were not used, the mean probability over pairs with that share of same ones is the share."""
    model = comparator("quadratic")
    model.solve_head(*draw_items(400, 4, seed=3), same_prior=prior)
    items, labels = draw_items(200, 4, seed=4)
    p = model.score_matrix(items, items).sigmoid()
    same = labels[:, None] == labels
    others = ~torch.eye(len(items), dtype=torch.bool)
    mean = prior * p[same & others].mean() + (1 - prior) * p[~same].mean()
    assert abs(float(mean) / prior - 1) < 0.1
    if prior == 0.5:
        assert pf.evaluate(model, items, labels, resamples=20).calibration_error.value < 0.02


def test_the_head_is_started_and_the_decision_removed():
    """Afterwards a loss does not start the head again, and a threshold for other scores is gone."""
    model = comparator("product")
    model.decision = pf.evaluate(model, *TEST, resamples=20).decide(eer=True)
    model.solve_head(*TRAIN)
    assert bool(model.head_started)
    assert model.decision is None
    size = (TRAIN[0] * model.embedding_scale).square().mean().sqrt()
    assert abs(float(size) - 1) < 0.05


def test_the_encoder_stays_and_is_used_once_per_item():
    seen = []

    class Counting(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    model = pf.SiameseComparator(Counting(WIDTH, 6), "product")
    before = model.encoder.weight.clone()
    seen.clear()
    model.train()
    model.solve_head(*TRAIN)
    assert sum(seen) == len(TRAIN[0])
    assert model.training
    assert torch.equal(model.encoder.weight, before)


@pytest.mark.parametrize("fusion", ["product", "quadratic", ["squared-diff", "cosine"]])
def test_a_data_set_is_read_identity_by_identity(fusion, monkeypatch):
    """In parts it gives what all embeddings in memory give."""
    monkeypatch.setattr("pairfuse.solving.reading.READ", 50)

    class Items(Dataset):
        read = 0

        def __len__(self):
            return len(TRAIN[0])

        def __getitem__(self, index):
            Items.read += 1
            return TRAIN[0][index]

    streamed, plain = comparator(fusion).double(), comparator(fusion).double()
    shrinkage = 0.3
    ours = streamed.solve_head(Items(), TRAIN[1], shrinkage=shrinkage)
    expected = plain.solve_head(*TRAIN, shrinkage=shrinkage)
    assert Items.read == len(TRAIN[0])
    assert abs(ours.auc - expected.auc) < 1e-3
    some = TEST[0][:20].double()
    scores = streamed.score_matrix(some, some), plain.score_matrix(some, some)
    correlation = torch.corrcoef(torch.stack([x.flatten() for x in scores]))[0, 1]
    assert correlation > 0.9999


def test_half_precision_is_solved_in_float64():
    items, labels = TRAIN
    half, full = comparator("product"), comparator("product")
    reports = half.solve_head(items.half(), labels), full.solve_head(items.half().float(), labels)
    assert reports[0].auc == reports[1].auc
    torch.testing.assert_close(half.head.weight, full.head.weight)


def test_constant_and_collinear_features_are_solved():
    """And said: a constant coordinate, and one that comes twice."""
    items, labels = TRAIN
    items = torch.cat([items[:, :-2], torch.ones(len(items), 1), items[:, :1]], 1)
    model = comparator("product")
    report = model.solve_head(items, labels)
    assert "1 features are constant" in str(report)
    assert bool(model.head.weight.isfinite().all())
    assert report.auc >= report.unlearned_auc - 1e-3


def test_more_features_than_pairs_is_said():
    items, labels = draw_items(5, 2)
    report = comparator(["product", "squared-diff"]).solve_head(items, labels)
    assert "24 features are more than 5 same pairs determine" in str(report)


def test_unlabeled_items_and_singletons():
    """Unlabeled items change nothing; singletons make different pairs."""
    items, labels = TRAIN
    more = torch.cat([items, torch.randn(30, WIDTH)])
    model, same = comparator("squared-diff"), comparator("squared-diff")
    model.solve_head(items, labels)
    same.solve_head(more, torch.cat([labels, torch.full((30,), -1)]))
    torch.testing.assert_close(model.head.weight, same.head.weight)
    report = same.solve_head(more, torch.cat([labels, 1000 + torch.arange(30)]))
    assert report.identities == 180


@pytest.mark.parametrize(
    ("model", "items", "labels", "options", "error", "message"),
    [
        (comparator(), *TRAIN, {"same_prior": 1.0}, ValueError, "same_prior to be above 0 and below 1"),
        (comparator(), *TRAIN, {"shrinkage": 2.0}, ValueError, r"shrinkage to be in \[0, 1\]"),
        (comparator(), *TRAIN, {"folds": 1}, ValueError, "folds to be at least 2"),
        (comparator(), TRAIN[0], TRAIN[1][:-1], {}, ValueError, "599 labels and 600 items"),
        (comparator(), TRAIN[0], torch.zeros(600, dtype=torch.long), {}, ValueError, "two identities, got 1"),
        (comparator(), TRAIN[0], torch.arange(600), {}, ValueError, "no same pairs"),
        (comparator(), TRAIN[0] * torch.nan, TRAIN[1], {}, ValueError, "finite embeddings"),
        (comparator(), torch.ones(600, WIDTH), TRAIN[1], {}, ValueError, "may have collapsed"),
        (comparator(head="mlp"), *TRAIN, {}, TypeError, "solves linear heads with one output"),
        (comparator(head=nn.Linear(WIDTH, 2)), *TRAIN, {}, TypeError, "solves linear heads with one output"),
        (comparator("sum", allow_additive=True), *TRAIN, {}, ValueError, "that can tell same from different, got Sum"),
        (comparator(right_encoder=nn.Identity()), *TRAIN, {}, ValueError, "one encoder for both sides"),
    ],
)
def test_bad_input(model, items, labels, options, error, message):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=message):
        model.solve_head(items, labels, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_head_of_the_users_own_is_solved():
    """One linear layer is enough; such a model has no scale of the embeddings."""
    model = comparator("squared-diff", head=nn.Linear(WIDTH, 1))
    report = model.solve_head(*TRAIN)
    assert abs(pf.evaluate(model, *TEST, resamples=20).auc.value - report.auc) < 0.05


def test_the_report_reads_well():
    report = comparator("quadratic").solve_head(*TRAIN)
    text = str(report)
    for words in ("Quadratic, two-covariance model", "900 same and", "held-out AUC", "unlearned", "condition"):
        assert words in text
    assert report.to_dict()["method"] == "two-covariance model"


def test_platt_is_logistic_regression():
    """Slope and intercept minimize the balanced logistic loss with smoothed targets."""
    same, different = torch.randn(300) * 2 + 5, torch.randn(900) + 2
    slope, intercept = fit_platt(same, different)
    x = torch.tensor([slope, intercept], dtype=torch.float64, requires_grad=True)
    loss = 0.0
    for scores, target in ((same, 301 / 302), (different, 1 / 902)):
        logits = x[0] * scores.double() + x[1]
        loss = loss + nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target)) / 2
    loss.backward()
    assert x.grad.abs().max() < 1e-6
    assert fit_platt(different, same) == (0.0, 0.0)


def test_folds_and_held_out_pairs_share_no_identity():
    """Each fold has two identities and a same pair; drawn pairs are what they are said to be."""
    labels = torch.tensor([0, 0, 1, 1, 2, 3, 4, 4, 5, -1, 6, 7])
    fold = fold_of_items(labels, 5, 0)
    assert fold.max() == 2
    assert fold[9] == -1
    for k in range(3):
        inside = fold == k
        held = draw_held_out(labels, inside, torch.Generator().manual_seed(0), 4)
        drawn = labels[held.items]
        same = drawn[held.left] == drawn[held.right]
        assert inside[held.items].all()
        assert same[: held.same].all()
        assert not same[held.same :].any()
        assert (held.left[: held.same] != held.right[: held.same]).all()
    assert fold_of_items(torch.tensor([0, 0, 1, 1, 2]), 5, 0) is None


def test_different_pairs_are_equally_likely():
    left, right = draw_different(torch.tensor([1, 2, 3]), 60_000, torch.Generator().manual_seed(0))
    counts = torch.zeros(6, 6).index_put_((left, right), torch.ones(()), accumulate=True)
    group = torch.tensor([0, 1, 1, 2, 2, 2])
    allowed = group[:, None] != group
    assert counts[~allowed].sum() == 0
    assert (counts[allowed] / counts.sum() - 1 / allowed.sum()).abs().max() < 0.005


def test_placements_give_the_area_under_the_curve():
    labels = TEST[1]
    held = draw_held_out(labels, labels >= 0, torch.Generator().manual_seed(0), 4)
    scores = torch.randn(len(held.left), 2).double()
    scores[: held.same] += 1
    found = Placements()
    found.add(scores, held)
    y = (torch.arange(len(scores)) < held.same).long()
    for column in range(2):
        assert abs(float(found.auc()[column]) - pf.evaluate_scores(scores[:, column], y).auc.value) < 1e-9
    assert found.error_of_gain(0)[0] == 0
    assert 0 < found.error_of_gain(0)[1] < 0.1
