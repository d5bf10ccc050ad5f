"""Many threads ask one model in train mode: wrong answers, changed statistics and changed modes.

    python -m tests.benchmarks.threads

The model has a batch norm and dropout. In the second row another thread trains it at the same time, at a learning rate
of 0, so that the right answers stay the same but for the running statistics.
"""

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

import pairfuse as pf


def build() -> pf.SiameseComparator:
    """A model in train mode."""
    torch.manual_seed(0)
    parts = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 8)
    return pf.SiameseComparator(nn.Sequential(*parts)).train()


def ask(threads: int, calls: int, *, train: bool) -> str:
    """One row of the table."""
    model = build()
    norm = model.encoder.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm1d)
    norm.momentum = 0.0  # training counts its batches and leaves the statistics
    x1, x2 = torch.randn(32, 16), torch.randn(32, 16)
    due = model.predict_proba(x1, x2)
    modes = [module.training for module in model.modules()]
    stop, steps = threading.Event(), 0

    def training() -> None:
        nonlocal steps
        while train and not stop.is_set():
            model(x1, x2).sum().backward()
            steps += 1

    trainer = threading.Thread(target=training)
    trainer.start()
    with ThreadPoolExecutor(threads) as pool:
        answers = pool.map(lambda _: model.predict_proba(x1, x2), range(threads * calls))
        wrong = sum(not torch.allclose(answer, due) for answer in answers)
    stop.set()
    trainer.join()
    same = "yes" if modes == [module.training for module in model.modules()] else "no"
    missed = steps - int(norm.num_batches_tracked or 0)
    return f"| {threads} × {calls} | {steps if train else 'no'} | {wrong} | {missed} | {same} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    head = (
        "threads × calls of `predict_proba`",
        "training steps meanwhile",
        "wrong answers",
        "miscounted batches",
        "same mode",
    )
    print(f"| {' | '.join(head)} |\n|---|---|---|---|---|")
    for train in (False, True):
        print(ask(options.threads, options.calls, train=train), flush=True)


if __name__ == "__main__":
    main()
