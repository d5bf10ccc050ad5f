"""pytorch-metric-learning through a comparator: each loss and miner works, or is listed as one that does not."""

import inspect
import re

import pytest
import torch
from torch import nn

import pairfuse as pf

losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")
distances = pytest.importorskip("pytorch_metric_learning.distances")

from pairfuse.integrations.metric_learning import ComparatorDistance  # noqa: E402

WIDTH, CLASSES, ITEMS = 6, 4, 16
OPTIONS = {
    "ContrastiveLoss": {"pos_margin": 2, "neg_margin": -2},
    "ProxyAnchorLoss": {"num_classes": CLASSES, "embedding_size": WIDTH},
    "ProxyNCALoss": {"num_classes": CLASSES, "embedding_size": WIDTH},
    "PairMarginMiner": {"pos_margin": 2, "neg_margin": -2},
    "UniformHistogramMiner": {"num_bins": 10, "pos_per_bin": 5, "neg_per_bin": 5},
}
NOT_A_LOSS_OR_MINER = {
    *("BaseLossWrapper", "BaseMetricLossFunction", "GenericPairLoss", "MultipleLosses", "EmbeddingRegularizerMixin"),
    *("WeightRegularizerMixin", "BaseMiner", "EmbeddingsAlreadyPackagedAsTriplets"),
}
WRAPPERS = {"SelfSupervisedLoss", "CrossBatchMemory"}
WORKING, *LISTED = [
    set(re.findall(r"`(\w+(?:Loss|Miner|Memory))`", part))
    for part in re.split(r"Losses that (?:demand|normalize)", inspect.getdoc(ComparatorDistance))
]
LOSSES = sorted(name for name in WORKING if hasattr(losses, name) and name not in WRAPPERS)
MINERS = sorted(name for name in WORKING if hasattr(miners, name))


def batch(fusion="product"):
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Linear(5, WIDTH), fusion).double()
    return model, torch.randn(ITEMS, 5, dtype=torch.float64), torch.arange(ITEMS) % CLASSES


def test_every_loss_and_miner_is_listed():
    found = {
        name
        for module in (losses, miners)
        for name, value in vars(module).items()
        if inspect.isclass(value) and name not in NOT_A_LOSS_OR_MINER
    }
    assert found == set.union(WORKING, *LISTED)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    """The loss of the scores: the same as of a distance that has them as its matrix; gradients reach the head."""
    model, x, labels = batch()
    distance = ComparatorDistance(model)
    torch.manual_seed(1)
    loss = getattr(losses, name)(distance=distance, **OPTIONS.get(name, {})).double()
    value = loss(model.encode(x), labels)
    value.backward()
    assert value.isfinite()
    assert model.head.weight.grad.abs().max() > 0
    if not name.startswith("Proxy"):
        assert value.item() == pytest.approx(
            by_matrix(loss, model.score_embeddings(model.encode(x), model.encode(x)), labels)
        )


def by_matrix(loss, scores, labels):
    """The loss of a distance that looks its scores up."""

    class Table(distances.BaseDistance):
        def compute_mat(self, query_emb, ref_emb):
            return scores[query_emb[:, 0].long()][:, ref_emb[:, 0].long()]

        def pairwise_distance(self, query_emb, ref_emb):
            return scores[query_emb[:, 0].long(), ref_emb[:, 0].long()]

    loss.distance = Table(normalize_embeddings=False, is_inverted=True)
    return loss(torch.arange(len(scores), dtype=scores.dtype)[:, None], labels).item()


@pytest.mark.parametrize("name", MINERS)
def test_miners(name):
    """Pairs and triplets fit the labels, and a loss takes them."""
    model, x, labels = batch()
    distance = ComparatorDistance(model)
    found = getattr(miners, name)(distance=distance, **OPTIONS.get(name, {}))(model.encode(x), labels)
    assert len(found[0]) > 0
    assert (labels[found[0]] == labels[found[1]]).all()
    assert (labels[found[-2] if len(found) == 4 else found[0]] != labels[found[-1]]).all()
    losses.TripletMarginLoss(distance=distance)(model.encode(x), labels, found).backward()
    assert model.head.weight.grad.abs().max() > 0


def test_the_hardest_negative_has_the_highest_score():
    model, x, labels = batch()
    anchors, _, negatives = miners.BatchHardMiner(distance=ComparatorDistance(model))(model.encode(x), labels)
    scores = model.score_embeddings(model.encode(x), model.encode(x)).detach()
    wanted = scores.masked_fill(labels[:, None] == labels, -torch.inf).argmax(1)
    assert torch.equal(negatives, wanted[anchors])


def test_pair_by_pair_scores_are_those_of_the_model():
    """Also after a start, which scales the embeddings."""
    model, x, _ = batch()
    y = torch.arange(ITEMS) % 2.0
    model.start_head(5 * x, 5 * torch.where(y[:, None] > 0, x, x.flip(0)), y)
    u, v = model.encode(5 * x), model.encode(5 * x.flip(0))
    torch.testing.assert_close(ComparatorDistance(model).pairwise_distance(u, v), model(5 * x, 5 * x.flip(0)))


def test_wrappers():
    model, x, labels = batch()
    inner = losses.NTXentLoss(distance=ComparatorDistance(model))
    losses.SelfSupervisedLoss(inner)(model.encode(x), model.encode(x + 0.1)).backward()
    memory = losses.CrossBatchMemory(inner, WIDTH, memory_size=64).double()
    for _ in range(2):
        memory(model.encode(x), labels).backward()
    assert model.head.weight.grad.isfinite().all()


@pytest.mark.parametrize("reducer", ["MeanReducer", "AvgNonZeroReducer", "SumReducer"])
def test_reducers(reducer):
    model, x, labels = batch()
    loss = losses.TripletMarginLoss(distance=ComparatorDistance(model), reducer=getattr(reducers, reducer)())
    assert loss(model.encode(x), labels).isfinite()


def test_two_encoders():
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Linear(5, WIDTH), "bilinear", right_encoder=nn.Linear(3, WIDTH))
    u, v = model.encode(torch.randn(8, 5)), model.encode(torch.randn(12, 3), side="right")
    loss = losses.TripletMarginLoss(distance=ComparatorDistance(model))
    loss(u, torch.arange(8) % 4, ref_emb=v, ref_labels=torch.arange(12) % 4).backward()
    assert model.right_encoder.weight.grad is not None
    with pytest.raises(ValueError, match="expects ref_emb from the right encoder"):
        loss(u, torch.arange(8) % 4)


def test_the_model_is_not_part_of_the_loss():
    model, *_ = batch()
    loss = losses.TripletMarginLoss(distance=ComparatorDistance(model))
    assert list(loss.parameters()) == []


def test_bad_input():
    with pytest.raises(TypeError, match="model to be a SiameseComparator, got Linear"):
        ComparatorDistance(nn.Linear(3, 1))
    model, x, labels = batch()
    with pytest.raises(ValueError, match="scores embeddings as they are, but this loss normalizes them"):
        losses.NormalizedSoftmaxLoss(CLASSES, WIDTH, distance=ComparatorDistance(model))(model.encode(x), labels)
    model = pf.SiameseComparator(nn.Linear(5, WIDTH), "product", nn.Linear(WIDTH, 2))
    with pytest.raises(ValueError, match="a head with one output, got 2"):
        losses.TripletMarginLoss(distance=ComparatorDistance(model))(model.encode(x.float()), labels)


@pytest.mark.parametrize("name", ["CircleLoss", "FastAPLoss", "ThresholdConsistentMarginLoss", "TupletMarginLoss"])
def test_losses_that_demand_a_distance(name):
    with pytest.raises(AssertionError, match="requires the distance metric to be"):
        getattr(losses, name)(distance=ComparatorDistance(batch()[0]))
