"""The law of losses across processes: W processes have the loss and every gradient of one process with all items.

    python -m tests.losses.law_across_processes 2 3 4
    python -m tests.losses.law_across_processes 2 --few

Prints the largest relative differences for each dtype, and fails if they are too large. Processes are forked, so that
torch is imported once.
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import pairfuse as pf
from pairfuse.losses import AllPairsLoss

ITEMS, WIDTH, DIM = 23, 6, 5
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}
OBJECTIVES = [
    {"objective": "neighbors"},
    {"objective": "softmax"},
    {"objective": "margin", "margin": 0.5},
    {"objective": "margin", "negatives": "semi-hard"},
    {"objective": "bce"},
]
SHARES = {  # of 23 items, for each number of processes: even, uneven, and one process without any
    1: [[23]],
    2: [[12, 11], [20, 3]],
    3: [[8, 8, 7], [0, 15, 8]],
    4: [[6, 6, 6, 5], [1, 10, 0, 12]],
}
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class Step(nn.Module):
    """What DDP wraps: its forward encodes and computes the loss."""

    def __init__(self, model: pf.SiameseComparator, encoder: nn.Module, sides: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.encoder, self.sides = model, encoder, sides
        self.loss = AllPairsLoss(model, **options)

    def forward(self, x: Tensor, labels: Tensor, x2: Tensor, labels2: Tensor) -> Tensor:
        """Return the loss."""
        u = self.encoder(x)
        if self.sides == "one set":
            return self.loss(u, labels)
        v = self.model.right_encoder(x2 if self.sides == "two sets" else x)
        return self.loss(u, labels, v, labels2 if self.sides == "two sets" else None)


def build(fusion: str, head: str, sides: str, dtype: torch.dtype) -> tuple[pf.SiameseComparator, Batch]:
    """A model and the whole batch, the same in every process."""
    torch.manual_seed(0)
    right = None if sides == "one set" else nn.Linear(WIDTH, DIM)
    model = pf.SiameseComparator(nn.Linear(WIDTH, DIM), fusion, head, right_encoder=right).to(dtype)
    x, x2 = torch.randn(2, ITEMS, WIDTH, dtype=dtype)
    labels, labels2 = torch.randint(-1, 6, (2, ITEMS))
    return model, (x, labels, x2, labels2)


def run(case: tuple[Any, ...], share: slice, rank: int, world: int) -> list[Tensor]:
    """The loss and the gradients of all parameters, of one step with a share of the batch."""
    fusion, head, sides, options, wrapped, max_bytes, dtype = case
    model, batch = build(fusion, head, sides, dtype)
    options = {**options, "distributed": world > 1, "max_bytes": max_bytes}
    parts = [x[share] for x in batch]
    if world > 1 and wrapped == "encoder":
        step: nn.Module = Step(model, DistributedDataParallel(model.encoder), sides, options)
    else:
        step = Step(model, model.encoder, sides, options)
        if world > 1:
            step = DistributedDataParallel(step)
    value = step(*parts)
    value.backward()
    found = [value.detach()]
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        if world > 1 and wrapped == "encoder" and not name.startswith("encoder."):
            distributed.all_reduce(gradient)
            gradient /= world
        found.append(gradient)
    return found


def cases(dtype: torch.dtype, few: bool) -> Iterator[tuple[Any, ...]]:
    """Every combination for the product, or every seventh; some for others."""
    every = itertools.product(OBJECTIVES, ("one set", "two encoders", "two sets"), ("all", "encoder"), (2**30, 6_000))
    for options, sides, wrapped, max_bytes in itertools.islice(every, 0, None, 7 if few else 1):
        yield "product", "linear", sides, options, wrapped, max_bytes, dtype
    for fusion, head in (("symmetric", "mlp"), ("bilinear", "linear"), ("ntn", "linear"), ("cosine", "linear")):
        for max_bytes in (2**30, 60_000):
            yield fusion, head, "one set", OBJECTIVES[0], "all", max_bytes, dtype


def compare(rank: int, world: int, where: str, few: bool) -> None:
    """Check the law in one of the processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{where}/{world}", rank=rank, world_size=world)
    worst = dict.fromkeys(LIMITS, 0.0)
    for dtype in LIMITS:
        for case in cases(dtype, few):
            wanted = run(case, slice(None), 0, 1)
            for sizes in SHARES[world]:
                before = sum(sizes[:rank])
                got = run(case, slice(before, before + sizes[rank]), rank, world)
                least = 0.1 * max(x.norm() for x in wanted[1:])  # some gradients cancel to zero, such as that of a bias
                for mine, right in zip(got, wanted, strict=True):
                    difference = ((mine - right).norm() / right.norm().clamp(min=least)).item()
                    assert difference < LIMITS[dtype], (case, sizes, difference)
                    worst[dtype] = max(worst[dtype], difference)
    if world > 1:
        check_errors(rank, world)
    if rank == 0:
        print(f"{world} processes:", ", ".join(f"{str(x)[6:]} {d:.1e}" for x, d in worst.items()), flush=True)
    distributed.destroy_process_group()


def check_errors(rank: int, world: int) -> None:
    """An error in one process ends the call in all."""
    model, (x, labels, *_) = build("product", "linear", "one set", torch.float32)
    loss = AllPairsLoss(model, distributed=True)
    u = model.encode(x)
    message = ""
    try:
        loss(u, labels.float() if rank == 1 else labels)
    except (TypeError, RuntimeError) as error:
        message = str(error)
    assert ("labels to be integers" if rank == 1 else "because process 1 raised an error") in message, message
    try:
        loss(u, labels, *([u, labels] if rank == 1 else []))
    except RuntimeError as error:
        message = str(error)
    assert "the same arguments in every process" in message, message
    try:
        loss(u, torch.full_like(labels, 3))
    except ValueError as error:
        message = str(error)
    assert f"got {world * ITEMS} labeled items of one identity" in message, message


def main(worlds: list[int], few: bool) -> int:
    """Check the law for some numbers of processes."""
    failed = 0
    with tempfile.TemporaryDirectory() as where:
        for world in worlds:
            children = []
            for rank in range(world):
                child = os.fork()
                if child == 0:
                    status = 1
                    with suppress(BaseException):
                        try:
                            compare(rank, world, where, few)
                            status = 0
                        except BaseException as error:
                            print(f"process {rank} of {world}: {type(error).__name__}: {error}", flush=True)
                            raise
                    os._exit(status)
                children.append(child)
            failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return failed


if __name__ == "__main__":
    few = "--few" in sys.argv
    sys.exit(main([int(world) for world in sys.argv[1:] if world != "--few"] or [2, 3, 4], few))
