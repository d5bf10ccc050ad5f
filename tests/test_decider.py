"""`decider`: a comparator with its decision as one module, with the numbers of the comparator."""

import copy

import pytest
import torch
from export_cases import CALIBRATIONS, Series, Texts, comparator, decision, texts
from small_encoders import convnet
from torch import nn

import pairfuse as pf


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_is_predict_proba_and_same(head, tied, calibration):
    """The same bits, also at the threshold."""
    model = comparator(head=head, tied=tied, calibration=calibration)
    x1, x2 = texts(64, 5), texts(64, 4, seed=1)  # the threshold is one of their scores
    probability, same = model.decider()(x1, x2)
    assert torch.equal(probability, model.predict_proba(x1, x2))
    assert torch.equal(same, model.same(x1, x2))
    assert 0 < same.sum() < 64
    with torch.no_grad():
        assert same[model(x1, x2) == model.decision.threshold].tolist() == [True]


def test_is_a_snapshot():
    """Training, another decision, and a change of mode leave it alone, and it leaves the model alone."""
    model = comparator(encoder=lambda: nn.Sequential(Series(), nn.BatchNorm1d(4), nn.Dropout(0.5))).train()
    model.decision = decision()
    state = copy.deepcopy(model.state_dict())
    x1, x2 = torch.randn(8, 5, 3), torch.randn(8, 5, 3)
    decider = model.decider()
    before = decider(x1, x2)
    assert model.training
    assert not any(module.training for module in decider.modules())
    assert not any(parameter.requires_grad for parameter in decider.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model(x1, x2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    model.decision = None
    assert all(map(torch.equal, decider(x1, x2), before))
    assert {id(p) for p in model.parameters()}.isdisjoint({id(p) for p in decider.parameters()})


def test_a_single_pair():
    model = pf.SiameseComparator(convnet(), item_ndim=3)
    model.decision = decision()
    x1, x2 = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    probability, same = model.decider()(x1, x2)
    assert (probability.shape, same.shape) == ((), ())
    assert probability == model.predict_proba(x1, x2)


def test_errors():
    model = pf.SiameseComparator(Series(), "product", embedding_dim=4)
    with pytest.raises(ValueError, match=r"decider expects a model with a decision, got none: set model.decision ="):
        model.decider()
    model = pf.SiameseComparator(nn.LazyLinear(4), "product", embedding_dim=4)
    model.decision = decision()
    with pytest.raises(ValueError, match=r"decider expects layers that know their width, got LazyLinear"):
        model.decider()
    norm = nn.Sequential(Texts(), nn.BatchNorm1d(4, track_running_stats=False))
    model = pf.SiameseComparator(norm, "product", embedding_dim=4)
    model.decision = decision()
    with pytest.raises(ValueError, match="decider needs rows that do not depend on their batch, but a BatchNorm1d"):
        model.decider()
    model = pf.SiameseComparator(Series(), "product", nn.Linear(4, 3), embedding_dim=4)
    model.decision = decision()
    with pytest.raises(ValueError, match="a Decider expects a head with one output, got 3: these are classes"):
        model.decider()(torch.randn(2, 5, 3), torch.randn(2, 5, 3))


def test_a_model_that_cannot_be_copied_says_why_it_is():
    encoder = Series()
    encoder.kept = encoder.last.weight * 2  # not a leaf of the graph
    model = pf.SiameseComparator(encoder, "product", embedding_dim=4)
    model.decision = decision()
    with pytest.raises(RuntimeError, match="deepcopy") as error:
        model.decider()
    assert error.value.__notes__ == ["decider copies the model, so that later training does not change the copy"]
