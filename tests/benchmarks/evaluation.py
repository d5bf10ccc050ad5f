"""Time and memory of `pf.evaluate` beside scoring the same pairs: `python -m tests.benchmarks.evaluation`.

All pairs of 20,000 items of width 128, product and a linear head, 1,000 resamples, on two threads. The time is that of
one look at all score blocks, in turn with evaluations. The peak is what the process takes beside the items; Linux only,
since it is read from /proc.
"""

import ctypes
import time
from pathlib import Path

import torch
from torch import nn
from tqdm import trange

import pairfuse as pf

ITEMS, WIDTH, EACH, TURNS = 20_000, 128, 3, 5
CASES = {"product": "linear", "squared-diff": "linear", "cosine": "linear", "bilinear": "linear", "sbert": "mlp"}


def status(key):
    """A figure of the process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def seconds(function):
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    """Print a row for each model."""
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ITEMS) // EACH
    centers = torch.randn(ITEMS // EACH + 1, WIDTH, generator=generator)
    items = centers[labels] + 3 * torch.randn(ITEMS, WIDTH, generator=generator)
    print("| model | pairs | all score blocks, s | evaluate, s | ratio | peak, MiB |\n|---|---|---|---|---|---|")
    for fusion, head in CASES.items():
        count = ITEMS if head == "linear" else ITEMS // 10
        some, known = items[:count], labels[:count]
        model = pf.SiameseComparator(nn.Identity(), fusion, head, embedding_dim=WIDTH)
        model.start_head(some[:-1], some[1:], (known[:-1] == known[1:]).float())

        def blocks(model=model, some=some):
            for _ in model.iter_score_blocks(some, some):
                pass

        def evaluate(model=model, some=some, known=known):
            pf.evaluate(model, some, known)

        pf.evaluate(model, some[:600], known[:600])  # what is made once
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = status("VmRSS")
        report = pf.evaluate(model, some, known)
        peak = (status("VmHWM") - before) / 1024
        times = [(seconds(blocks), seconds(evaluate)) for _ in trange(TURNS, desc=fusion, leave=False)]
        base, taken = (min(column) for column in zip(*times, strict=True))
        pairs = report.positives + report.negatives
        cells = (f"{fusion}, {head}", f"{pairs:,}", f"{base:.2f}", f"{taken:.2f}", f"{taken / base:.2f}", f"{peak:.0f}")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
