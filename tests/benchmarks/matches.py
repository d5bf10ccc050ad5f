"""Time and memory of `model.matches` beside scoring the same pairs: `python -m tests.benchmarks.matches`.

All matches of 60,000 items of width 128 with themselves, squared differences and a linear head, at a threshold that
leaves about two matches for three items; on two threads, in turn with a look at all score blocks, a bare product of
the same blocks, and the range search of faiss (of all items, so in both orders, as it always does). The peak is what
matching takes beside the embeddings; Linux only.
"""

import ctypes
import time
from pathlib import Path

import faiss
import torch
from torch import nn

import pairfuse as pf

ITEMS, WIDTH, EACH, TURNS = 60_000, 128, 3, 3
BLOCK = 4096


def status(key):
    """A figure of the process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main():
    """Print a row for each way, with the shortest of some turns."""
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ITEMS) // EACH
    centers = torch.randn(ITEMS // EACH, WIDTH, generator=generator)
    items = centers[labels] + 0.3 * torch.randn(ITEMS, WIDTH, generator=generator)
    model = pf.SiameseComparator(nn.Identity(), "squared-diff", embedding_dim=WIDTH)
    with torch.no_grad():
        model.head.weight.fill_(-1.0)
        model.head.bias.fill_(45.0)  # same pairs are about 23 apart, others 279
    threshold, found = 0.0, {}

    def matches():
        found["pairfuse"] = len(model.matches(items, threshold=threshold).left)

    def blocks():
        for _ in model.iter_score_blocks(items, items):
            pass

    def product():
        for rows in items.split(BLOCK):
            for columns in items.split(BLOCK):
                rows @ columns.T

    def range_search():
        index = faiss.IndexFlatL2(WIDTH)
        index.add(items.numpy())
        limits, *_ = index.range_search(items.numpy(), 45.0)
        found["faiss"] = int(limits[-1])

    pf.Gallery(model, items[:5000]).matches(threshold=threshold)  # what is made once
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    matches()
    peak = (status("VmHWM") - before) / 1024
    ways = {
        "all score blocks": blocks,
        "`model.matches`": matches,
        "bare blocks of `u @ v.T`": product,
        "faiss `range_search`": range_search,
    }
    times = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    base = min(times["all score blocks"])
    print(
        f"{found['pairfuse']:,} matches (faiss: {found['faiss']:,} with both orders and self-pairs), {peak:.0f} MiB\n"
    )
    print("| way | seconds | beside all score blocks |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {min(seconds):.2f} | {min(seconds) / base:.2f} |")


if __name__ == "__main__":
    main()
