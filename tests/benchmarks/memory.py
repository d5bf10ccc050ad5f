"""Peak memory of scoring beside its inputs and results, each case in a process of its own: it stays within `max_bytes`.

    python -m tests.benchmarks.memory

Linux only: the peak is read from /proc.
"""

import argparse
import ctypes
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pairfuse as pf
from pairfuse.scoring import MAX_BYTES

WIDTH = 64
CASES = {
    "every block of 20,000 × 20,000, product, linear": ("blocks", 20_000, 20_000, "product", "linear"),
    "every block of 20,000 × 20,000, squared-diff, linear": ("blocks", 20_000, 20_000, "squared-diff", "linear"),
    "every block of 20,000 × 20,000, symmetric, linear": ("blocks", 20_000, 20_000, "symmetric", "linear"),
    "every block of 20,000 × 20,000, concat, MLP": ("blocks", 20_000, 20_000, "concat", "mlp"),
    "every block of 20,000 × 20,000, concat, MLP, compiled": ("compiled", 20_000, 20_000, "concat", "mlp"),
    "every block of 20,000 × 20,000, symmetric, MLP": ("blocks", 20_000, 20_000, "symmetric", "mlp"),
    "top 10 of a million, 1,000 queries, product, linear": ("topk", 1_000, 1_000_000, "product", "linear"),
    "top 10 of a million, 1,000 queries, cosine, linear": ("topk", 1_000, 1_000_000, "cosine", "linear"),
    "top 10 of a million, 100 queries, symmetric, MLP": ("topk", 100, 1_000_000, "symmetric", "mlp"),
}


def measure(how: str, n: int, m: int, fusion: Any, head: Any, max_bytes: int, k: int = 10) -> tuple[float, float]:
    """MiB at the peak beside what was there before, and seconds."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), fusion, head, embedding_dim=WIDTH, allow_additive=True).eval()
    small = torch.randn(10, WIDTH)
    run(model, how, small, small, max_bytes, 1)  # what is made once: threads, kernels
    u, v = torch.randn(n, WIDTH), torch.randn(m, WIDTH)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free already would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start = _status("VmRSS"), time.perf_counter()
    run(model, how, u, v, max_bytes, k)
    return (_status("VmHWM") - before) / 1024, time.perf_counter() - start


def run(model: pf.SiameseComparator, how: str, u: torch.Tensor, v: torch.Tensor, max_bytes: int, k: int) -> None:
    """Score all pairs of embeddings and keep nothing; the items are embeddings, so that only scoring takes memory."""
    if how == "topk":
        model.topk(_Encoded(u), _Encoded(v), k, max_bytes=max_bytes)
        return
    for _ in model.iter_score_blocks(_Encoded(u), _Encoded(v), max_bytes=max_bytes, compile=how == "compiled"):
        pass


class _Encoded(torch.utils.data.DataLoader[torch.Tensor]):
    """Embeddings that are there already, as one batch."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__([x], batch_size=None)


def _status(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(arguments: list[str] | None = None) -> None:
    """Print a table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="one case, in this process")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    options = parser.parse_args(arguments)
    if options.only:
        print(*measure(*CASES[options.only], options.max_bytes))
        return
    print(f"Embeddings of width {WIDTH}, float32, `max_bytes` {options.max_bytes // 2**20} MiB.\n")
    print("| | peak beside inputs and result, MiB | seconds | float32 scores of all pairs, MiB |")
    print("|---|---|---|---|")
    for name, (_, n, m, *_rest) in CASES.items():
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.memory",
            "--only",
            name,
            "--max-bytes",
            str(options.max_bytes),
        ]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        mebibytes, seconds = map(float, printed.split())
        print(f"| {name} | {mebibytes:.0f} | {seconds:.1f} | {n * m * 4 / 2**20:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
