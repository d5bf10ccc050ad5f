"""Eval mode for one caller: right answers in every thread, and nothing of the model changed."""

import functools
import threading
import warnings
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse import _modes
from pairfuse._modes import eval_mode


class TrainsItself(nn.Linear):
    """A module that overrides `train`, as layers with adapters do: no view of it can be made."""

    def train(self, mode=True):
        return super().train(mode)


class HoldsItself(nn.Module):
    """A module that reaches a part of itself by a way that a view cannot redirect."""

    def __init__(self, how):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Dropout())
        inner = self.inner
        self.how = {
            "list": lambda: [inner],
            "closure": lambda: lambda x: inner(x),
            "method": lambda: inner.forward,
            "partial": lambda: functools.partial(inner),
        }[how]()

    def forward(self, x):
        return self.how[0](x) if isinstance(self.how, list) else self.how(x)


def model_in_train_mode(*first):
    torch.manual_seed(0)
    encoder = nn.Sequential(*first, nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 4))
    model = pf.SiameseComparator(encoder, head=nn.Sequential(nn.Linear(8, 4), nn.Dropout(), nn.Linear(4, 1)))
    return model.train()


def state_of(model):
    tensors = [*model.parameters(), *model.buffers()]
    return [m.training for m in model.modules()], [(id(t), t._version, t.clone()) for t in tensors]


def assert_unchanged(model, before):
    modes, tensors = state_of(model)
    assert modes == before[0]
    for (same, version, value), (was, old_version, old) in zip(tensors, before[1], strict=True):
        assert (same, version) == (was, old_version)
        assert torch.equal(value, old)


@pytest.mark.parametrize("first", [[], [TrainsItself(6, 6)]], ids=["view", "switched"])
def test_many_threads_get_right_answers_of_a_model_in_train_mode(first):
    """8 threads: dropout is off for all of them, no batch statistics change, the mode stays."""
    model = model_in_train_mode(*first)
    x1, x2 = torch.randn(2, 5, 6)
    with eval_mode(model) as still:
        due = still(x1, x2).sigmoid().detach(), still.encode(x1).detach()
    before = state_of(model)

    def ask(index):
        if index % 10 == 0:  # an error in one thread is not felt in the others
            with pytest.raises((RuntimeError, ValueError)):
                model.predict_proba(x1, torch.randn(5, 7))
        gallery = pf.Gallery(model, x2)
        values = gallery.topk(x1, k=1).values
        return model.predict_proba(x1, x2), model.encode_items(x1), values

    with ThreadPoolExecutor(8) as pool:
        for p, u, values in pool.map(ask, range(100)):
            torch.testing.assert_close(p, due[0])
            torch.testing.assert_close(u, due[1])
            assert values.shape == (5, 1)
    assert_unchanged(model, before)


def test_training_in_another_thread_is_not_disturbed():
    """The training loop never sees eval mode: dropout acts and batch statistics move at each of its steps."""
    model = model_in_train_mode()
    x1, x2 = torch.randn(2, 5, 6)
    stop = threading.Event()

    def predict():
        while not stop.is_set():
            model.predict_proba(x1, x2)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            model(x1, x2).sum().backward()
            assert model.training
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert model.encoder[1].num_batches_tracked == 50


def test_a_model_in_eval_mode_is_used_itself_without_a_lock(monkeypatch):
    monkeypatch.setattr(_modes, "_lock", None)
    model = model_in_train_mode().eval()
    with eval_mode(model) as still:
        assert still is model
    model.predict_proba(*torch.randn(2, 5, 6))


@pytest.mark.parametrize("how", ["list", "closure", "method", "partial"])
def test_a_module_that_holds_itself_is_switched(how):
    """A view would compute with the original there, in train mode."""
    encoder = HoldsItself(how).train()
    with eval_mode(encoder) as still:
        assert still is encoder
        assert not encoder.inner[1].training
        x = torch.randn(50, 6)
        assert torch.equal(still(x), still(x))
    assert encoder.inner[1].training


def test_the_last_of_several_callers_switches_back():
    model = TrainsItself(3, 3).train()
    with eval_mode(model):
        with eval_mode(model):
            assert not model.training
        assert not model.training
    assert model.training


def test_two_models_may_share_a_switched_encoder():
    """The one that leaves first does not put the encoder of the other back into train mode."""
    encoder = TrainsItself(6, 4).train()
    one, other = pf.SiameseComparator(encoder, "product").train(), pf.SiameseComparator(encoder, "abs-diff").train()
    first, second = eval_mode(one), eval_mode(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert one.training
    assert not encoder.training
    assert not other.training
    second.__exit__(None, None, None)
    assert encoder.training
    assert other.training


def test_many_threads_with_two_models_of_one_scripted_encoder():
    encoder = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Dropout(), nn.Linear(32, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(encoder)
    models = [pf.SiameseComparator(scripted, fusion, embedding_dim=4).train() for fusion in ("symmetric", "product")]
    x1, x2 = torch.randn(2, 5, 6)
    due = [model.predict_proba(x1, x2) for model in models]
    with ThreadPoolExecutor(4) as pool:
        for index, p in enumerate(pool.map(lambda i: models[i % 2].predict_proba(x1, x2), range(400))):
            torch.testing.assert_close(p, due[index % 2])
    assert all(model.training for model in models)
    assert scripted.training
    assert dict(scripted.named_buffers())["1.num_batches_tracked"] == 0


def test_modes_are_restored_one_by_one_after_an_error():
    for first in ([], [TrainsItself(6, 6)]):
        model = model_in_train_mode(*first)
        model.encoder[-1].eval()
        before = state_of(model)
        with pytest.raises(RuntimeError):
            model.predict_proba(torch.randn(3, 6), torch.randn(3, 7))
        assert_unchanged(model, before)


def test_attributes_that_a_forward_sets_are_kept():
    class Counts(nn.Linear):
        calls, last = 0, None

        def forward(self, x):
            self.calls += 1
            self.last = super().forward(x)
            return self.last

    model = pf.SiameseComparator(Counts(6, 4)).train()
    x1, x2 = torch.randn(2, 5, 6)
    model.predict_proba(x1, x2)
    assert model.encoder.calls == 1
    assert model.encoder.last.shape == (10, 4)
    assert model.encoder.training


WAYS = [weakref.ref, lambda m: deque([m]), lambda m: [[[[[m]]]]], lambda m: lambda x, m=m: m(x)]


@pytest.mark.parametrize("how", WAYS)
def test_what_cannot_be_searched_is_switched(how):
    """A weak reference, a deque, deep lists and a default argument reach the original, so it must be in eval mode."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout()).train()
    model.way = how(model[1])
    with eval_mode(model) as still:
        assert still is model
        assert not model[1].training
    assert model[1].training


def test_modules_made_in_a_forward_are_kept():
    class Grows(nn.Linear):
        def forward(self, x):
            if not hasattr(self, "more"):
                self.more = nn.Linear(4, 4)
            return self.more(super().forward(x))

    model = pf.SiameseComparator(Grows(6, 4)).train()
    x1, x2 = torch.randn(2, 5, 6)
    assert torch.equal(model.predict_proba(x1, x2), model.predict_proba(x1, x2))


class Edits(nn.Module):
    """A module that deletes, replaces and shares its own parts while it runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.gone, self.note = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 4), "old"

    def forward(self, x):
        if "gone" in self._modules:
            del self.gone, self.note
            self.second, self.alias = nn.Linear(6, 4), self.first
        return self.first(x) + self.second(x) + self.alias(x)


def test_what_a_forward_deletes_or_replaces_is_so_on_the_model():
    model = pf.SiameseComparator(Edits(), embedding_dim=4).train()
    x1, x2 = torch.randn(2, 5, 6)
    old = model.encoder.second
    p = model.predict_proba(x1, x2)
    assert set(model.encoder._modules) == {"first", "second", "alias"}
    assert not hasattr(model.encoder, "note")
    assert model.encoder.second is not old
    assert model.encoder.alias is model.encoder.first
    assert all(module.training for module in model.modules())
    assert torch.equal(model.predict_proba(x1, x2), p)


def test_a_train_that_raises_leaves_the_mode():
    class Refuses(nn.Linear):
        def train(self, mode=True):
            if not mode:
                raise RuntimeError("no eval mode")
            return super().train(mode)

    model = pf.SiameseComparator(Refuses(6, 4)).train()
    with pytest.raises(RuntimeError, match="no eval mode"):
        model.predict_proba(*torch.randn(2, 5, 6))
    assert all(module.training for module in model.modules())


def test_an_exported_encoder_has_no_mode_to_set():
    """Its `eval` and `train` raise."""
    encoder = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    batch = torch.export.Dim("batch")
    program = torch.export.export(encoder, (torch.randn(8, 6),), dynamic_shapes=({0: batch},))
    exported = program.module()
    model = pf.SiameseComparator(exported, embedding_dim=4)
    x1, x2 = torch.randn(2, 5, 6)
    modes = [m.training for m in model.modules()]
    torch.testing.assert_close(model.predict_proba(x1, x2), model(x1, x2).sigmoid())
    assert model.topk(x1, x2, k=2).indices.shape == (5, 2)
    assert model.encode_items(x1).shape == (5, 4)
    assert [m.training for m in model.modules()] == modes
