"""The example for several GPUs, with processes that meet on the CPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "several_gpus.py"
MODULE = [sys.executable, "-m", "torch.distributed.run"]


def run(processes: int) -> str:
    """What process 0 prints."""
    options = ["--standalone", "--local-addr=localhost", f"--nproc-per-node={processes}"]  # finds a free port by itself
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    # The exit code is not looked at: once in a while gloo aborts a process that has done its work and leaves.
    result = subprocess.run([*MODULE, *options, str(SCRIPT)], capture_output=True, text=True, env=environment)
    found = re.search(rf"^{processes} processes: (.*)$", result.stdout, re.MULTILINE)
    assert found, result.stderr
    return found[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux only")
def test_processes_train_together():
    """Both runs find the digits; tests/losses checks that the loss and its gradients are those of one process."""
    pytest.importorskip("sklearn")
    for processes in (1, 2):
        right = re.search(r"([\d.]+)% right", run(processes))[1]
        assert float(right) > 90
