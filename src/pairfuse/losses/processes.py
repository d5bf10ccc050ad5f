"""A batch that is spread over the processes of `torch.distributed`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


class Sizes(NamedTuple):
    """How many items each process has."""

    left: list[int]
    right: list[int]


def check_group() -> None:
    """Raise unless there is a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "AllPairsLoss with distributed=True expects a process group, got none: call "
            "torch.distributed.init_process_group first, or pass distributed=False"
        )


def agree(left: Tensor | None, right: Tensor | None, kind: int = 0) -> Sizes:
    """Tell all processes the sizes of this one, and return those of all.

    Args:
        left: The left embeddings of this process; None if they were refused, so that the others need not wait for it.
        right: The right ones.
        kind: A number that all processes must share: which arguments they were called with.

    Raises:
        RuntimeError: Another process was refused, or was called with other arguments.
        ValueError: The widths of the embeddings differ.
    """
    if left is None or right is None:
        device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
        mine = torch.full((5,), -1, device=device)
    else:
        mine = torch.tensor([len(left), len(right), left.shape[1], right.shape[1], kind], device=left.device)
    everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, mine)
    table = torch.stack(everyone).tolist()
    if left is None:
        return Sizes([], [])
    for rank, row in enumerate(table):
        if row[0] < 0:
            raise RuntimeError(f"AllPairsLoss stopped, because process {rank} raised an error: see its message")
        if row[4] != kind:
            raise RuntimeError(
                f"AllPairsLoss expects the same arguments in every process, but process {rank} has other ones: pass "
                "embeddings2 and labels2 everywhere or nowhere"
            )
        if row[2:4] != table[0][2:4]:
            raise ValueError(
                f"AllPairsLoss expects embeddings of the same widths in all processes, got {table[0][2]} and "
                f"{table[0][3]} in process 0, and {row[2]} and {row[3]} in process {rank}"
            )
    return Sizes([row[0] for row in table], [row[1] for row in table])


def gather(x: Tensor, sizes: list[int]) -> Tensor:
    """Return the rows of all processes, in the order of their ranks. Gradients go back to the process of each row.

    The gradient of a row is the sum of what all processes computed for it.
    """
    return _Gather.apply(x, sizes)  # type: ignore[no-any-return]


def sum_with_averaged_gradients(x: Tensor) -> Tensor:
    """Sum a number over all processes. Each gradient is multiplied by their number, because DDP averages gradients."""
    return _Sum.apply(x)  # type: ignore[no-any-return]


def sum_of_all(x: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradients."""
    x = x.clone()
    distributed.all_reduce(x)
    return x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        before = sum(sizes[: distributed.get_rank()])
        ctx.rows = slice(before, before + len(x))
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # collectives want one shape
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return sum_of_all(gradient)[ctx.rows], None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_of_all(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * distributed.get_world_size()
