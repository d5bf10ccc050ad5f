"""Probabilities: in eval mode, in batches, without a trace."""

import copy
import warnings

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


class Ends(nn.Module):
    """A head of one's own: a linear layer, then a function."""

    def __init__(self, function, features=8):
        super().__init__()
        self.linear, self.function, self.calls = nn.Linear(features, 2), function, 0

    def forward(self, z):
        self.calls += 1
        return self.function(self.linear(z))


X1, X2 = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
PROBABILITIES = [
    lambda z: torch.sigmoid(z[:, 0]),
    lambda z: z[:, :1].sigmoid().clamp(1e-6, 1 - 1e-6),
    lambda z: 1 / (1 + torch.exp(-z[:, 0])),
    lambda z: z.softmax(1),
    lambda z: (z.exp() / z.exp().sum(1, keepdim=True))[:, 0],
]


@pytest.mark.parametrize("function", PROBABILITIES)
def test_a_head_that_returns_probabilities(function):
    """A second sigmoid would give 0.5 to 0.73. Frozen heads and inference mode make no difference."""
    model = pf.SiameseComparator(nn.Linear(5, 4), head=Ends(function).requires_grad_(False))
    words = r"expects a head that returns logits, but all (20|40) outputs of Ends are in \[0, 1\]: if they are"
    with torch.inference_mode(), pytest.warns(UserWarning, match=words) as found:
        model.predict_proba(X1, X2)
    assert found[0].filename == __file__


class NoParameters(nn.Module):
    def forward(self, z):
        return z.sum(1).sigmoid()


def test_a_head_without_parameters_and_a_hook_that_returns_probabilities():
    hooked = nn.Linear(8, 1)
    hooked.register_forward_hook(lambda module, inputs, output: output.sigmoid())
    for head in (NoParameters(), hooked):
        with pytest.warns(UserWarning, match="are in \\[0, 1\\]"):
            pf.SiameseComparator(nn.Linear(5, 4), head=head).predict_proba(X1, X2)


@pytest.mark.parametrize(
    ("head", "pairs"),
    [
        (Ends(lambda z: z[:, 0] * 9), 20),
        (Ends(lambda z: z * z.sigmoid() - 1), 20),
        (Ends(lambda z: z[:, 0].sigmoid()), 7),  # logits of so few pairs may all be in [0, 1]
        (Ends(lambda z: z[:, 0] * 0), 20),  # a head that starts at 0
        (nn.Linear(8, 1), 20),
    ],
)
def test_a_head_that_returns_logits(head, pairs):
    """Logits of a linear layer may have any values, also those in [0, 1]."""
    if isinstance(head, nn.Linear):
        nn.init.constant_(head.weight, 1e-3)
        nn.init.constant_(head.bias, 0.5)
    model = pf.SiameseComparator(nn.Linear(5, 4), head=head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_proba(X1[:pairs], X2[:pairs])


def test_a_head_of_ones_own_is_called_once_for_each_batch():
    model = pf.SiameseComparator(nn.Linear(5, 4), head=Ends(lambda z: 9 * z))
    model.predict_proba(X1, X2)
    assert model.head.calls == 1
    model.predict_proba(X1, X2, batch_size=7)
    assert model.head.calls == 1 + 3


@pytest.mark.parametrize("where", ["encoder", "head"])
def test_a_batch_norm_on_batch_statistics_is_refused(where):
    """The probability of a pair would depend on the other pairs, and on batch_size."""
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    encoder = nn.Sequential(nn.Linear(5, 4), norm) if where == "encoder" else nn.Linear(5, 4)
    head = nn.Sequential(norm, nn.Linear(4, 1)) if where == "head" else "linear"
    model = pf.SiameseComparator(encoder, "product", head, embedding_dim=4)
    with pytest.raises(ValueError, match="predict_proba needs rows that do not depend on their batch, but a BatchN"):
        model.predict_proba(X1, X2)
