"""Whether an export takes the sizes that it should, and gives what the module gives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._modes import eval_mode
from pairfuse.export.inputs import Example
from pairfuse.items.batches import Batch, describe
from pairfuse.scoring.blocks import without_autocast

TOLERANCE = 1e-4  # relative to the largest value, or absolute if that is below 1
LONGEST = 300  # characters of another library's error


class Verifier:
    """Runs a module and its export on inputs of other sizes than those of the example.

    Args:
        owner: The caller, for errors.
        module: The module that is exported.
        example: An example of its inputs.
        all_pairs: True if the inputs have batch sizes of their own, False if they share one.
    """

    def __init__(self, owner: str, module: nn.Module, example: Example, *, all_pairs: bool) -> None:
        self.owner, self.module, self.example, self.all_pairs = owner, module, example, all_pairs

    def sample(self, first: int, second: int, shifts: tuple[int, ...]) -> tuple[Batch, ...]:
        """Return inputs with these numbers of items, or all with the first one, and with shifted lengths."""
        items = (first, second) if self.all_pairs else (first,) * len(shifts)
        return self.example.resized(*items, shifts=shifts)

    def check_batched(self, still: nn.Module) -> None:
        """Raise unless the example has a batch dimension."""
        output = _tensors(still(*self.example.batches))[0]
        sizes = [side[0].tensor.shape[0] for side in self.example.inputs]
        if list(output.shape[: len(sizes)]) != (sizes if self.all_pairs else sizes[:1])[: output.ndim] or not output.ndim:
            given = " and ".join(describe(batch) for batch in self.example.batches)
            raise ValueError(f"{self.owner} expects a batch for each input, got single items of {given}: pass x[None]")

    def check_free(self, program: torch.export.ExportedProgram) -> None:
        """Raise if the traced code fixes a size that may vary, or ties it to another."""
        nodes = {node.name: node for node in program.graph.nodes}
        seen: dict[Any, tuple[Any, str]] = {}
        values = iter(nodes[name].meta["val"] for name in program.graph_signature.user_inputs)
        for side, inputs in enumerate(self.example.inputs):
            for x in inputs:
                shape = next(values).shape
                for dim in (0, *x.dims):
                    what, size = f"dimension {dim} of {x.name}", shape[dim]
                    group = (side if self.all_pairs else 0, 0) if dim == 0 else (side, 1)
                    if isinstance(size, int):
                        self._refuse(f"fixes {what} at {size}")
                    symbol = size.node.expr
                    if not symbol.is_symbol:
                        self._refuse(f"makes {what} depend on another size, as {symbol}")
                    other, where = seen.setdefault(symbol, (group, what))
                    if other != group:
                        self._refuse(f"makes {what} equal to {where}")

    def _refuse(self, does: str) -> None:
        raise ValueError(
            f"{self.owner} expects {type(self.module).__name__} to take any size, but its code, or that of the encoder, "
            f"{does}: use the sizes of the tensors themselves, as in x.flatten(1) or x.mean(1), and do not compare or "
            "convert them. Leave out of dynamic what need not vary"
        )

    def compare(self, export: Callable[..., Any]) -> None:
        """Raise unless an export gives what the module gives, for one item and for several, and for other lengths."""
        for sizes, shifts in (((1, 5), self.example.unlike_shifts()), ((7, 7), self.example.equal_shifts())):
            inputs = self.sample(*sizes, shifts)
            given = " and ".join(describe(batch) for batch in inputs)
            device = self.example.flat[0].tensor.device
            try:
                with without_autocast(device), torch.no_grad(), eval_mode(self.module) as still:
                    due = _tensors(still(*inputs))
            except Exception as error:
                raise ValueError(
                    f"{self.owner} expects {type(self.module).__name__} to take inputs of other sizes than the example, "
                    f"such as {given}, but it fails: {shorten(error)}"
                ) from error
            try:
                with torch.no_grad():
                    found = _tensors(export(*inputs))
            except Exception as error:
                raise ValueError(
                    f"{self.owner} made an export of {type(self.module).__name__} that fails for inputs of {given}, which "
                    f"the module takes: {shorten(error)}"
                ) from error
            for a, b in zip(found, due, strict=True):
                if a.shape != b.shape or (b.is_floating_point() and not _close(a, b)):
                    raise ValueError(
                        f"{self.owner} made an export of {type(self.module).__name__} that gives other values than the "
                        f"module for inputs of {given}: the code of the encoder may depend on sizes, on the values of "
                        "tensors, or on chance"
                    )


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.cpu().double(), b.cpu().double()
    size = b.where(b.isfinite(), 0).abs().max().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, size), equal_nan=True)


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def shorten(error: BaseException) -> str:
    """Return the first line of an error, cut if it is very long."""
    line = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(" .:")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
