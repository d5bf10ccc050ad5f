"""What can and what cannot learn "same or different", from the start that the heads give."""

import pytest
import torch
from torch import nn

import pairfuse as pf


def small_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("fusion", [name for name in pf.list_fusions() if pf.make_fusion(name, 2).xnor != "never"])
def test_learns_xnor_promptly(fusion, head, tied, seed):
    """From the start that the head gives, a small network answers "same color?" in 100 steps of Adam, two in 200."""
    torch.manual_seed(seed)
    right_encoder = None if tied else small_network()
    model = pf.SiameseComparator(small_network(), fusion, head, right_encoder=right_encoder)
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100 if tied else 200):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x1, x2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.predict_proba(x1, x2) - y).abs().max() < 0.1


def test_concat_does_not_learn_xnor():
    """The founding failure: the cross-entropy of the four pairs never falls below ln 2."""
    model = pf.SiameseComparator(small_network(), "concat", allow_additive=True)
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x1, x2), y)
        assert loss > 0.6931
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((model.predict_proba(x1, x2) > 0.5) == (y > 0.5)).sum() <= 3


def test_batch_statistics_can_fake_it_in_train_mode():
    """With BatchNorm and a batch of one pair an item's embedding depends on its partner: the sum is none any more.

    The loss of the train mode falls below the floor, and the answers of the eval mode are as bad as they must be.
    """
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
    model = pf.SiameseComparator(encoder, "concat", allow_additive=True)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=5e-3), []
    for x1, x2, y in torch.utils.data.DataLoader(pf.data.BlackWhitePairs(400, size=1)):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x1, x2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-50:]) / 50 < 0.1
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    assert ((model.predict_proba(x1, x2) > 0.5) == (y > 0.5)).sum() <= 3
