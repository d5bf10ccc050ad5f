"""Ctrl-C at random times: how often `diagnose` left a trace on the model, the optimizer or the random states.

python -m tests.benchmarks.interrupts [--signals 2000]
"""

import argparse
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn

import pairfuse as pf


class Model(nn.Module):
    """Small, with all that might be left changed: statistics, dropout, a recurrent layer, shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.first, self.tied = nn.Linear(6, 6), nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.recurrent = nn.LSTM(6, 6, batch_first=True)
        self.head = nn.Linear(12, 1)
        self.count = 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Embed a batch of items."""
        x = self.drop(self.tied(torch.relu(self.first(self.norm(x)))))
        return self.recurrent(x[:, None])[0][:, 0]

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        """Score a batch of pairs."""
        self.count += 1
        u, v = self.encode(x1), self.encode(x2)
        return self.head(torch.cat([u * v, (u - v).abs()], 1))


def state(model: Model, optimizer: torch.optim.Optimizer) -> list[Any]:
    """Everything that must stay as it is, comparable by `==`."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [(id(t), t._version, t.requires_grad, t.tolist()) for t in tensors],
        [id(p.grad) for p in model.parameters()],
        [(m.training, sorted(vars(m)), len(m._forward_pre_hooks)) for m in model.modules()],
        [id(w) for w in model.recurrent._flat_weights],
        [id(p) for group in optimizer.param_groups for p in group["params"]],
        [torch.get_rng_state().tolist(), random.getstate(), torch.is_grad_enabled(), model.count],
        [signal.getsignal(signal.SIGINT)],
    ]


def main() -> None:
    """Send the signals and print the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=2000)
    signals = parser.parse_args().signals
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    torch.manual_seed(0)
    model, x1, x2, y = Model(), *torch.randn(2, 12, 6), (torch.arange(12) % 2).float()
    optimizer = torch.optim.AdamW(model.parameters())
    model(x1, x2).sum().backward()
    diagnose: Callable[[], Any] = lambda: pf.diagnose(model, x1, x2, y, optimizer=optimizer)  # noqa: E731
    took = max(diagnose().seconds for _ in range(3))
    before, draw = state(model, optimizer), random.Random(0)
    sent = interrupted = traces = 0

    def interrupt(*_: Any) -> None:
        nonlocal sent
        sent += 1
        if draw.random() < 0.3:  # and a second one soon after
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 3e-3))
        signal.raise_signal(signal.SIGINT)

    previous, start = signal.signal(signal.SIGALRM, interrupt), time.perf_counter()
    while sent < signals:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-4, took))
                diagnose()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        with suppress(KeyboardInterrupt):  # a second one that came after the end
            signal.setitimer(signal.ITIMER_REAL, 0)
        traces += state(model, optimizer) != before
    signal.signal(signal.SIGALRM, previous)
    seconds = time.perf_counter() - start
    assert interrupted > signals / 4, f"only {interrupted} diagnoses were interrupted by {sent} signals"
    print(f"{sent} signals, {interrupted} diagnoses interrupted, {traces} traces ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
