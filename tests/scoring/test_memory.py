"""Scoring stays within its budget of memory, measured in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLEAR = Path("/proc/self/clear_refs")
LIMIT = 48  # MiB
WIDE_HEAD = "nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 1000), nn.Linear(1000, 1))"
FAST = [
    ("blocks", 2_000, 8_000, "'concat'", "'mlp'", 0),  # 4 GiB of hidden features
    ("topk", 500, 200_000, "'product'", "'linear'", 10),
]
SLOW = [
    ("blocks", 8_000, 8_000, "'product'", "'linear'", 0),  # 244 MiB of scores
    ("blocks", 8_000, 8_000, "'squared-diff'", "'linear'", 0),
    ("blocks", 4_000, 8_000, "'symmetric'", "'linear'", 0),
    ("blocks", 1_000, 2_000, "'symmetric'", "'mlp'", 0),
    ("compiled", 2_000, 4_000, "'abs-diff'", "'linear'", 0),  # 2 GiB of differences
    ("compiled", 2_000, 8_000, "'concat'", "'mlp'", 0),
    ("topk", 50, 100_000, "'concat'", "'mlp'", 10),
    ("topk", 300, 20_000, "'product'", "'linear'", 3000),
    ("blocks", 20_000, 2, "pf.fusions.NTN(64, 32)", "'linear'", 0),  # 160 MiB of u @ W
    ("blocks", 500, 500, "pf.fusions.PowerNormalized(pf.fusions.MFB(64, 100, rank=20))", "'linear'", 0),
    ("blocks", 500, 500, "'abs-diff'", WIDE_HEAD, 0),
]


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("how", "n", "m", "fusion", "head", "k"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_peak(how, n, m, fusion, head, k):
    code = (
        "import pairfuse as pf; from torch import nn; from tests.benchmarks.memory import measure; "
        f"print(measure({how!r}, {n}, {m}, {fusion}, {head}, {LIMIT} * 2**20, {k})[0])"
    )
    root = Path(__file__).parents[2]
    given_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed arrays leave the process: no fragments
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=given_back)
    result = n * k * 12 / 2**20
    assert float(printed.stdout) <= LIMIT + result
