"""Whether an export takes the sizes that it should, and gives what the module gives."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse.export.inputs import Example
from pairfuse.items.batches import Batch, describe

TOLERANCE = 1e-4  # relative to the largest value, or absolute if that is below 1
LONGEST = 300  # characters of another library's error


class Verifier:
    """Compares a module and its export on inputs of other sizes than those of the example.

    Args:
        owner: The caller, for errors.
        module: The module that is exported, in eval mode.
        example: An example of its inputs.
        all_pairs: True if the inputs have batch sizes of their own, False if they share one.

    Attributes:
        given: Inputs to trace, with sizes that torch.export does not fix.

    Raises:
        ValueError: The example has no batch dimension, or the module does not take other sizes.
    """

    def __init__(self, owner: str, module: nn.Module, example: Example, *, all_pairs: bool) -> None:
        self.owner, self.example, self.all_pairs = owner, example, all_pairs
        self.module = type(module).__name__
        self._check_batched(_tensors(module(*example.batches))[0])
        unlike, equal = example.unlike_shifts(), example.equal_shifts()
        self.given = self._sample(3, 4, unlike)  # torch.export fixes sizes of 0 and 1
        others = [self._sample(1, 5, unlike), self._sample(7, 7, equal)]
        self._cases = [(inputs, self._run(module, inputs)) for inputs in others]

    def _sample(self, first: int, second: int, shifts: tuple[int, ...]) -> tuple[Batch, ...]:
        """Return inputs with these numbers of items, or all with the first one, and with shifted lengths."""
        items = (first, second) if self.all_pairs else (first,) * len(shifts)
        return self.example.resized(*items, shifts=shifts)

    def _check_batched(self, output: Tensor) -> None:
        items = [side[0].tensor.shape[0] for side in self.example.inputs]
        leading = items if self.all_pairs else items[:1]
        if list(output.shape[: len(leading)]) != leading:
            raise ValueError(
                f"{self.owner} expects a batch for each input, got single items of {_shapes(self.example.batches)}: "
                "pass x[None]"
            )

    def _run(self, module: nn.Module, inputs: tuple[Batch, ...]) -> list[Tensor]:
        try:
            return _tensors(module(*inputs))
        except Exception as error:
            raise ValueError(
                f"{self.owner} expects {self.module} to take inputs of other sizes than the example, such as "
                f"{_shapes(inputs)}, but it fails: {shorten(error)}. Leave out of dynamic what must not vary"
            ) from error

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
                    group = (side if self.all_pairs else 0, 0) if dim == 0 else (side, dim)
                    symbol: Any = None if isinstance(size, int) else size.node.expr
                    if symbol is None or symbol.is_number:
                        self._refuse(f"fixes {what} at {size}")
                    if not symbol.is_symbol:
                        self._refuse(f"makes {what} depend on another size, as {symbol}")
                    other, where = seen.setdefault(symbol, (group, what))
                    if other != group:
                        self._refuse(f"makes {what} equal to {where}")

    def _refuse(self, does: str) -> None:
        raise ValueError(
            f"{self.owner} expects {self.module} to take any size, but its code, or that of the encoder, "
            f"{does}: use the sizes of the tensors themselves, as in x.flatten(1) or x.mean(1), and do not compare or "
            "convert them. Leave out of dynamic what need not vary"
        )

    def compare(self, export: Callable[..., Any]) -> None:
        """Raise unless an export gives what the module gives, for one item and for several, and for other lengths."""
        for inputs, due in self._cases:
            case = f"{self.owner} made an export of {self.module} that, for inputs of {_shapes(inputs)}, "
            try:
                found = _tensors(export(*inputs))
            except Exception as error:
                raise ValueError(f"{case}fails, though the module takes them: {shorten(error)}") from error
            if not all(map(_close, found, due)):
                raise ValueError(
                    f"{case}gives other values than the module: the code of the encoder may depend on sizes, on the "
                    "values of tensors, or on chance"
                )


def _shapes(inputs: tuple[Batch, ...]) -> str:
    return " and ".join(map(describe, inputs))


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _close(a: Tensor, b: Tensor) -> bool:
    """True for equal shapes and close values. Answers are not compared: a score may be at the threshold."""
    if a.shape != b.shape or not b.is_floating_point():
        return a.shape == b.shape
    a, b = a.cpu().double(), b.cpu().double()
    size = b.where(b.isfinite(), 0).abs().max().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, size), equal_nan=True)


def shorten(error: BaseException) -> str:
    """Return the first line of an error, cut if it is very long."""
    line = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(" .:")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
