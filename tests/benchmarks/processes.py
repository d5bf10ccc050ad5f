"""`AllPairsLoss(distributed=True)`: memory and time of each process, for one batch over 1, 2 and 4 processes.

    python -m tests.benchmarks.processes

The processes meet on the CPU and share its cores, so their times show what they add up to, not what several machines
would take. Needs Linux: the peak of memory is read from /proc.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, nn

import pairfuse as pf
from tests.benchmarks.memory import _status

ITEMS, WIDTH, PER_IDENTITY = 8192, 128, 4


def step(rank: int, world: int) -> tuple[float, float]:
    """MiB at the peak of one step besides what was there before, and seconds."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), "cosine", embedding_dim=WIDTH)
    u, labels = torch.randn(ITEMS, WIDTH), torch.arange(ITEMS) // PER_IDENTITY
    u = u.tensor_split(world)[rank].clone().requires_grad_()
    labels = labels.tensor_split(world)[rank]
    loss = pf.losses.AllPairsLoss(model, distributed=True)
    loss(u[:64].detach().requires_grad_(), labels[:64]).backward()  # what is made once
    distributed.barrier()
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = _status("VmRSS"), time.perf_counter()
    loss(u, labels).backward()
    return (_status("VmHWM") - before) / 1024, time.perf_counter() - begin


def work(rank: int, world: int, where: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{where}/{world}", rank=rank, world_size=world)
    found: list[tuple[float, float]] = [(0, 0)] * world
    distributed.all_gather_object(found, step(rank, world))
    if rank == 0:
        memory, seconds = (max(column) for column in zip(*found, strict=True))
        print(f"| {world} | {ITEMS // world:,} | {memory:.0f} | {seconds:.1f} |", flush=True)
    distributed.destroy_process_group()


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    scores = ITEMS**2 * 4 / 2**20
    print(f"One step with {ITEMS:,} items of width {WIDTH}. Scores of all pairs: {scores:.0f} MiB.\n")
    print("| processes | items of each | extra memory of each at the peak, MiB | seconds |")
    print("|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as where:
        for world in (1, 2, 4):
            children = []
            for rank in range(world):
                child = os.fork()
                if child == 0:
                    work(rank, world, where)
                    os._exit(0)
                children.append(child)
            for child in children:
                os.waitpid(child, 0)


if __name__ == "__main__":
    main()
