"""`AllPairsLoss` tile by tile beside the same loss on the whole score matrix: seconds of a step, and peak memory.

    python -m tests.benchmarks.all_pairs_loss

The memory part needs Linux: the peak is read from /proc, each case in a process of its own.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss
from torch import Tensor, nn

import pairfuse as pf
from pairfuse.losses.all_pairs import MAX_BYTES
from tests.benchmarks.memory import _status

WIDTH = 128
ITEMS = 4  # of each identity
EVERYTHING = 2**40  # a budget that all pairs fit into
OBJECTIVES = {
    "neighbors": {"objective": "neighbors"},
    "softmax": {"objective": "softmax"},
    "margin": {"objective": "margin"},
    "margin, semi-hard": {"objective": "margin", "negatives": "semi-hard"},
    "bce": {"objective": "bce"},
}
TIMED = [
    *((4096, "product", "linear", name) for name in OBJECTIVES),
    (4096, "squared-diff", "linear", "neighbors"),
    (2048, "symmetric", "linear", "neighbors"),
    (1024, "product", "mlp", "neighbors"),
    (1024, "concat", "mlp", "neighbors"),
]
MEASURED = [
    *((16_384, "product", "linear", name) for name in OBJECTIVES),
    (16_384, "squared-diff", "linear", "neighbors"),
]
MEASURED_ONCE = [(8_192, "concat", "mlp", "neighbors"), (4_096, "symmetric", "linear", "neighbors")]


def build(size: int, fusion: str, head: str) -> tuple[pf.SiameseComparator, Tensor, Tensor]:
    """A comparator of embeddings, and a batch of them with its labels."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), fusion, head, embedding_dim=WIDTH)
    return model, torch.randn(size, WIDTH, requires_grad=True), torch.arange(size) // ITEMS


def step(model: pf.SiameseComparator, u: Tensor, labels: Tensor, objective: str, max_bytes: int) -> float:
    """Seconds of one forward and backward."""
    loss = pf.losses.AllPairsLoss(model, max_bytes=max_bytes, **OBJECTIVES[objective])
    model.zero_grad()
    u.grad = None
    start = time.perf_counter()
    loss(u, labels).backward()
    return time.perf_counter() - start


def beside_triplets(size: int = 256, rounds: int = 30) -> Iterator[tuple[str, float]]:
    """Milliseconds of a step of each recipe, in turn, the median: first of pytorch-metric-learning's triplet loss."""
    triplets = TripletMarginLoss(distance=CosineSimilarity())
    u, labels = build(size, "product", "linear")[1:]
    steps: dict[str, Callable[[], Tensor]] = {"triplets, pytorch-metric-learning": lambda: triplets(u, labels)}
    for fusion in ("cosine", "product", "squared-diff"):
        loss = pf.losses.AllPairsLoss(build(size, fusion, "linear")[0])
        steps[f"AllPairsLoss, {fusion}, {loss.objective}"] = lambda loss=loss: loss(u, labels)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step().backward()
            seconds[name].append(time.perf_counter() - begin)
    yield from ((name, 1000 * median(values)) for name, values in seconds.items())


def memory(size: int, fusion: str, head: str, objective: str, max_bytes: int) -> float:
    """MiB at the peak of one step, besides what was there before it; the gradients count."""
    model, u, labels = build(size, fusion, head)
    step(model, u[:64].detach().requires_grad_(), labels[:64], objective, max_bytes)  # what is made once
    step(model, u[:64].detach().requires_grad_(), labels[:64], objective, 150_000)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step(model, u, labels, objective, max_bytes)
    return (_status("VmHWM") - before) / 1024


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs=4, help="memory of one case, in this process")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", choices=["time", "memory"])
    options = parser.parse_args(arguments)
    if options.only:
        size, *case = options.only
        print(memory(int(size), *case, options.max_bytes))
        return
    print(f"Width {WIDTH}, float32, {ITEMS} items of each identity, {torch.get_num_threads()} threads.\n")
    if options.skip != "time":
        print("| loss and gradients of all pairs | whole matrix, s | tile by tile, s | ratio |\n|---|---|---|---|")
        for size, fusion, head, objective in TIMED:
            batch = build(size, fusion, head)
            in_tiles = min(options.max_bytes, size**2 * 4)  # less than the whole takes
            times = [
                [step(*batch, objective, max_bytes) for max_bytes in (EVERYTHING, in_tiles)]
                for _ in range(options.rounds + 1)
            ][1:]
            whole, tiled = (median(column) for column in zip(*times, strict=True))
            name = f"B = {size:,}, {fusion}, {head}, {objective}"
            print(f"| {name} | {whole:.3f} | {tiled:.3f} | {tiled / whole:.2f} |", flush=True)
        print()
    print(f"| B = 256, {torch.get_num_threads()} threads | ms of a step | ratio |\n|---|---|---|")
    first = None
    for name, milliseconds in beside_triplets():
        first = first or milliseconds
        print(f"| {name} | {milliseconds:.1f} | {milliseconds / first:.2f} |")
    print()
    if options.skip != "memory":
        print(f"`max_bytes` {options.max_bytes // 2**20} MiB; the gradients of the embeddings count as well.\n")
        print("| one step | extra memory, MiB | if freed arrays are given back | scores of all pairs, MiB |")
        print("|---|---|---|---|")
        for case in [*MEASURED, *MEASURED_ONCE]:
            size, fusion, head, objective = case
            command = [sys.executable, "-m", "tests.benchmarks.all_pairs_loss", "--max-bytes", str(options.max_bytes)]
            command += ["--only", *map(str, case)]
            found = []
            for variables in ({}, {"MALLOC_MMAP_THRESHOLD_": "65536"}):
                environment = os.environ | variables
                result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                found.append(f"{float(result.stdout):.0f}")
            name = f"B = {size:,}, {fusion}, {head}, {objective}"
            print(f"| {name} | {' | '.join(found)} | {size**2 * 4 / 2**20:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
