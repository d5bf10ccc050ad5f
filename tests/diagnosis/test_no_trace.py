"""A diagnosis leaves no trace: on the module, its gradients and modes, the random states, the optimizer, the inputs."""

import dataclasses
import random
from contextlib import suppress

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pairfuse as pf
from pairfuse.diagnosis import run
from pairfuse.diagnosis.probe import Skip
from pairfuse.diagnosis.probes import PROBES
from pairfuse.diagnosis.sandbox import sandbox


class Interrupted(BaseException):
    """As KeyboardInterrupt: nothing that catches an Exception sees it."""


class Everything(nn.Module):
    """Has all that a diagnosis might leave changed: shared weights, statistics, dropout, a recurrent part, counters."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.first, self.tied = nn.Linear(6, 6), nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.recurrent = nn.LSTM(6, 6, batch_first=True)
        self.head = nn.Linear(12, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.free = torch.ones(6)
        self.history, self.last, self.count = [], None, 0
        self.raises_at, self.error = None, RuntimeError

    def encode(self, x):
        x = self.drop(self.tied(torch.relu(self.first(self.norm(x)))))
        return self.recurrent(x[:, None])[0][:, 0] * self.free * self.scale

    def forward(self, x1, x2):
        self.count += 1
        self.calls += 1
        if self.count == self.raises_at:
            raise self.error("as asked")
        x1 += 1  # careless with its inputs
        self.free *= 1.0
        u, v = self.encode(x1), self.encode(x2)
        self.history.append(u)
        self.last = u
        torch.rand(1), random.random(), numpy.random.rand()
        return self.head(torch.cat([u * v, (u - v).abs()], 1))


def patient(train, frozen, with_gradients, seed):
    torch.manual_seed(seed)
    model = Everything()
    x1, x2 = torch.randn(2, 12, 6)
    optimizer = torch.optim.AdamW(model.parameters())
    if with_gradients:
        model(x1.clone(), x2).sum().backward()
        optimizer.step()
    model.train(train)
    model.norm.eval()
    model.first.bias.requires_grad_(not frozen)
    model.register_forward_hook(lambda *_: None)
    model.count = 0
    return model, x1, x2, (torch.arange(12) % 2).float(), optimizer


def state(model, x1, x2, optimizer):
    """Everything that must not change: objects by identity, tensors by value, version and gradient."""
    tensors = [*model.parameters(), *model.buffers(), model.free, x1, x2]
    return {
        "tensors": [(id(t), t._version, t.requires_grad, t.detach().clone()) for t in tensors],
        "gradients": [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "flat weights": [id(w) for w in model.recurrent._flat_weights],
        "counters": (model.count, len(model.history), id(model.last)),
        "optimizer": (str(optimizer.state_dict()), [id(p) for g in optimizer.param_groups for p in g["params"]]),
        "random": (torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()),
        "global": (torch.is_grad_enabled(), torch.get_default_dtype()),
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def check_no_trace(train, frozen, with_gradients, grad_mode, raises_at, error, seed):
    model, x1, x2, y, optimizer = patient(train, frozen, with_gradients, seed)
    model.raises_at, model.error = raises_at, error
    with torch.set_grad_enabled(grad_mode):
        before = state(model, x1, x2, optimizer)
        with suppress(Interrupted, KeyboardInterrupt, RuntimeError):
            pf.diagnose(model, x1, x2, y, optimizer=optimizer)
        after = state(model, x1, x2, optimizer)
    for what in before:
        assert equal(before[what], after[what]), what


@pytest.mark.parametrize(
    ("raises_at", "error"), [(None, RuntimeError), (1, RuntimeError), (30, Interrupted), (80, KeyboardInterrupt)]
)
def test_no_trace(raises_at, error):
    """Also where the model raises, or the user interrupts."""
    check_no_trace(True, True, True, True, raises_at, error, 0)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    train=st.booleans(),
    frozen=st.booleans(),
    with_gradients=st.booleans(),
    grad_mode=st.booleans(),
    raises_at=st.none() | st.integers(1, 300),
    error=st.sampled_from([RuntimeError, Interrupted, KeyboardInterrupt]),
    seed=st.integers(0, 9),
)
def test_no_trace_at_any_call(**case):
    """The same for any mode and any call of the model."""
    check_no_trace(**case)


@pytest.mark.slow
@settings(max_examples=40)
@given(probe=st.sampled_from(PROBES), error=st.sampled_from([RuntimeError, Interrupted]), late=st.booleans())
def test_no_trace_of_any_probe(probe, error, late):
    """A probe that raises, before or after its work, changes nothing, and the others go on."""
    model, x1, x2, y, optimizer = patient(True, False, True, 0)

    def broken(context):
        if late:
            with suppress(Skip):
                probe.run(context)
        raise error("as asked")

    probes = [dataclasses.replace(p, run=broken) if p is probe else p for p in PROBES]
    before = state(model, x1, x2, optimizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PROBES", probes)
        if error is RuntimeError:
            diagnosis = pf.diagnose(model, x1, x2, y, optimizer=optimizer, loss=nn.BCEWithLogitsLoss())
            assert diagnosis.skipped[probe.id] == "could not run: RuntimeError: as asked"
            assert diagnosis.undecided == ((probe.id,) if probe.decisive else ())
            assert len(diagnosis.findings) + len(diagnosis.skipped) == len(PROBES)
        else:
            with pytest.raises(Interrupted):
                pf.diagnose(model, x1, x2, y, optimizer=optimizer, loss=nn.BCEWithLogitsLoss())
    assert equal(before, state(model, x1, x2, optimizer))


def test_graph_of_the_user():
    """A loss that was computed before can be differentiated afterwards."""
    model, x1, x2, y, optimizer = patient(True, False, False, 0)
    loss = model(x1.clone(), x2).sum()
    pf.diagnose(model, x1, x2, y, optimizer=optimizer)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_sandbox():
    """Shared parameters stay shared, a recurrent layer computes with its copies, and all is put back."""
    model, *_ = patient(True, False, False, 0)
    originals = list(model.parameters())
    with sandbox(model, dtype=torch.float64):
        assert model.first.weight is model.tied.weight
        assert all(p.dtype == torch.float64 for p in model.parameters())
        assert model.recurrent._flat_weights[0] is model.recurrent.weight_ih_l0
        assert model.free.dtype == torch.float64
        model.new_attribute, model.history[:] = 1, [3]
        model.add_module("new", nn.ReLU())
    assert all(a is b for a, b in zip(originals, model.parameters(), strict=True))
    assert not hasattr(model, "new_attribute")
    assert not hasattr(model, "new")
    assert model.history == []


def test_model_behind_an_object():
    """It is found, so that the statistics of its batch norm stay as they are."""

    class Trainer:
        def __init__(self):
            self.parts = {"model": nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))}

        def score(self, x1, x2):
            return (self.parts["model"](x1) * self.parts["model"](x2)).sum(1)

    trainer = Trainer()
    pf.diagnose(trainer.score, *torch.randn(2, 12, 6))
    pf.diagnose(lambda a, b: trainer.score(a, b), *torch.randn(2, 12, 6))
    norm = trainer.parts["model"][1]
    assert norm.num_batches_tracked == 0
    assert norm.training


def test_plain_lists():
    """Modules and tensors in them are restored."""

    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoders, self.queue = [nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))], [torch.zeros(6)]
            self.head = nn.Linear(6, 1)

        def forward(self, x1, x2):
            u, v = self.encoders[0](x1), self.encoders[0](x2)
            self.queue[0] += u.detach().mean(0)
            return self.head(u * v)

    model = Careless()
    before = [parameter.clone() for parameter in model.encoders[0].parameters()]
    pf.diagnose(model, *torch.randn(2, 12, 6))
    assert model.encoders[0][1].num_batches_tracked == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.encoders[0].parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.encoders[0].parameters())
    assert (model.queue[0] == 0).all()


@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, tuple(torch.randn(2, 3, 6)))])
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_module(make):
    """Its attributes cannot be exchanged; it is copied."""

    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(6, 6), nn.Linear(6, 1)

        def forward(self, x1, x2):
            return self.head((self.encoder(x1) - self.encoder(x2)).abs()).squeeze(1)

    model = make(Difference())
    x1, x2 = torch.randn(2, 12, 6)
    before = [(p.data_ptr(), p._version, p.requires_grad, p.clone()) for p in model.parameters()]
    assert pf.diagnose(model, x1, x2).ok
    after = [(p.data_ptr(), p._version, p.requires_grad, p) for p in model.parameters()]
    assert equal(before, after)
    with pytest.raises(TypeError, match="must be the module itself where it is scripted or traced"):
        pf.diagnose(lambda a, b: model(a, b), x1, x2)
