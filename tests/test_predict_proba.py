"""Probabilities: in eval mode, in batches, without a trace."""

import copy

import pytest
import torch
from small_encoders import convnet, count_calls
from torch import nn

import pairfuse as pf


def test_predict_proba_is_in_eval_mode_and_leaves_no_trace():
    """Mode of every submodule, buffers and gradients are as before."""
    model = pf.SiameseComparator(nn.Sequential(convnet(), nn.Dropout(0.5)), embedding_dim=4).train()
    model.encoder[0][1].eval()  # a frozen BatchNorm in a model that trains
    modes = [module.training for module in model.modules()]
    x1, x2 = torch.rand(4, 3, 8, 8, requires_grad=True), torch.rand(4, 3, 8, 8)
    state, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    p = model.predict_proba(x1, x2)
    assert p.shape == (4,)
    assert not p.requires_grad
    assert ((p >= 0) & (p <= 1)).all()
    assert torch.equal(p, model.predict_proba(x1, x2))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
    torch.testing.assert_close(p, model.eval()(x1, x2).sigmoid())


@pytest.mark.parametrize("head", [nn.Linear(4, 1), nn.Linear(4, 3)])
def test_predict_proba_in_batches(head):
    """Batches of pairs bound the memory and change nothing. Several outputs are the classes of a softmax."""
    model = pf.SiameseComparator(convnet(), "product", head, item_ndim=3)
    calls = count_calls(model.encoder)
    x1, x2 = torch.rand(7, 3, 8, 8), torch.rand(7, 3, 8, 8)
    p = model.predict_proba(x1, x2, batch_size=3)
    assert [shape[0] for shape in calls] == [6, 6, 2]
    logits = model.eval()(x1, x2)
    torch.testing.assert_close(p, logits.sigmoid() if logits.ndim == 1 else logits.softmax(1))
    torch.testing.assert_close(model.predict_proba(x1[0], x2[0]), p[0])
    assert model.predict_proba(x1[:0], x2[:0]).shape == p[:0].shape


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_predict_proba_restores_the_mode_after_an_error(error):
    class Broken(nn.Linear):
        def forward(self, x):
            raise error

    model = pf.SiameseComparator(Broken(5, 4)).train()
    with pytest.raises(error):
        model.predict_proba(torch.rand(2, 5), torch.rand(2, 5))
    assert all(module.training for module in model.modules())
