"""Ctrl-C and threads: a diagnosis stops at a safe point, and one waits for the other."""

import signal
import threading

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.diagnosis import run
from pairfuse.diagnosis import sandbox as sandbox_file

X1, X2 = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(12) % 2).float()


@pytest.fixture(autouse=True)
def interrupts_are_on():
    """A shell that starts this in the background has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting(nn.Module):
    """Gets a Ctrl-C, or several, within its call number n."""

    def __init__(self, at, times=1):
        super().__init__()
        self.encoder, self.norm, self.head = nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        self.at, self.times, self.counter = at, times, Counter()

    def forward(self, x1, x2):
        self.counter.calls += 1
        if self.counter.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        self.counter.finished += 1
        return self.head(self.norm(self.encoder(x1) * self.encoder(x2)))


class Counter:
    """Survives the sandbox, which does not look into objects of other classes."""

    calls = finished = 0


def state(model):
    tensors = [*model.parameters(), *model.buffers()]
    return [(id(t), t._version, t.tolist()) for t in tensors], [m.training for m in model.modules()]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 5, 20, 60])
def test_ctrl_c_within_a_call(at, times):
    """The call ends, the next does not begin, and model and handler are as before; a second Ctrl-C changes nothing."""
    model, random = Interrupting(at, times), torch.get_rng_state()
    before, handler = state(model), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pf.diagnose(model, X1, X2, Y)
    assert model.counter.calls == model.counter.finished == at
    assert state(model) == before
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(torch.get_rng_state(), random)


def test_ctrl_c_while_the_model_is_restored(monkeypatch):
    """It takes effect once everything is restored."""
    model, refill, came = Interrupting(None), sandbox_file._refill, []

    def interrupted(container, content):
        if len(came) < 3:
            came.append(signal.raise_signal(signal.SIGINT))
        refill(container, content)

    before = state(model)
    monkeypatch.setattr(sandbox_file, "_refill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pf.diagnose(model, X1, X2, Y)
    assert state(model) == before


@pytest.mark.parametrize("error", [TimeoutError, SystemExit, None])
def test_your_own_handler(error):
    """It is called once, between two calls; what it raises, even an Exception, ends the diagnosis."""
    got = []

    def handler(*arguments):
        got.append(arguments)
        if error:
            raise error("stop")

    model = Interrupting(30, times=3)
    before, previous = state(model), signal.signal(signal.SIGINT, handler)
    try:
        if error:
            with pytest.raises(error, match="stop"):
                pf.diagnose(model, X1, X2, Y)
            assert model.counter.calls == 30
        else:
            assert pf.diagnose(model, X1, X2, Y).ok
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, previous)
    assert [number for number, _ in got] == [signal.SIGINT]
    assert state(model) == before


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    return thread, results


def test_no_handler_is_touched_in_another_thread(monkeypatch):
    """Python allows signal handlers in the main thread only."""
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was set"))
    thread, results = in_a_thread(lambda: pf.diagnose(Interrupting(None), X1, X2, Y))
    thread.join(60)
    assert results[0].ok


def test_two_threads():
    """Diagnoses of one model take turns: none begins before the other has ended, and both give the same findings."""
    model, inside, most = Interrupting(None), [], []
    prepare = run._prepare

    def counted(*arguments):
        inside.append(1)
        most.append(len(inside))
        prepare(*arguments)

    plain = run._run_probes

    def run_probes(*arguments):
        result = plain(*arguments)
        inside.pop()
        return result

    before = state(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_prepare", counted)
        patch.setattr(run, "_run_probes", run_probes)
        threads = [in_a_thread(lambda: pf.diagnose(model, X1, X2, Y).to_dict()["findings"]) for _ in range(3)]
        for thread, _ in threads:
            thread.join(60)
    results = [result[0] for _, result in threads]
    assert results[0] == results[1] == results[2]
    assert max(most) == 1
    assert state(model) == before


def test_ctrl_c_while_waiting_for_another_thread(monkeypatch):
    """A diagnosis that waits for its turn can be interrupted."""
    held, release = threading.Event(), threading.Event()

    def hold():
        with run._one_at_a_time(lambda: None):
            held.set()
            release.wait(60)

    thread, _ = in_a_thread(hold)
    held.wait(60)
    model, before = Interrupting(None), signal.getsignal(signal.SIGINT)
    lock = run._LOCK

    class Lock:
        release = lock.release

        @staticmethod
        def acquire(timeout):
            signal.raise_signal(signal.SIGINT)
            return lock.acquire(timeout=timeout)

    monkeypatch.setattr(run, "_LOCK", Lock)
    try:
        with pytest.raises(KeyboardInterrupt):
            pf.diagnose(model, X1, X2, Y)
    finally:
        release.set()
        thread.join(60)
    assert model.counter.calls == 0
    assert signal.getsignal(signal.SIGINT) is before
