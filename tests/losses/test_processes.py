"""`AllPairsLoss(distributed=True)`, with processes that meet on the CPU.

`python -m tests.losses.law_across_processes` checks many more combinations.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux only")


@pytest.mark.parametrize("worlds", [["2", "--few"], pytest.param(["1", "3", "4", "--few"], marks=pytest.mark.slow)])
def test_processes_have_the_loss_and_gradients_of_one(worlds):
    command = [sys.executable, "-m", "tests.losses.law_across_processes", *worlds]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
