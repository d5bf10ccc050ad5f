"""Scoring stays within its budget of memory, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

CLEAR = Path("/proc/self/clear_refs")
LIMIT = 48  # MiB


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("how", "n", "m", "fusion", "head"),
    [
        ("blocks", 8_000, 8_000, "product", "linear"),  # 244 MiB of scores
        ("blocks", 8_000, 8_000, "squared-diff", "linear"),
        ("blocks", 4_000, 8_000, "symmetric", "linear"),
        ("blocks", 2_000, 8_000, "concat", "mlp"),  # 4 GiB of hidden features
        ("blocks", 1_000, 2_000, "symmetric", "mlp"),
        ("compiled", 2_000, 4_000, "abs-diff", "linear"),  # 2 GiB of differences
        ("compiled", 2_000, 8_000, "concat", "mlp"),
        ("topk", 500, 200_000, "product", "linear"),
        ("topk", 50, 100_000, "concat", "mlp"),
    ],
)
def test_peak(how, n, m, fusion, head):
    code = (
        "from tests.benchmarks.memory import measure; "
        f"print(measure({how!r}, {n}, {m}, {fusion!r}, {head!r}, {LIMIT} * 2**20)[0])"
    )
    root = Path(__file__).parents[1]
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert float(printed.stdout) <= LIMIT
