"""Watching which functions of torch a model calls, whatever it is made of."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

PROBABILITIES = ("sigmoid", "softmax", "hardsigmoid")
LINKS = (
    *PROBABILITIES,
    "log_softmax",
    "logsigmoid",
    "tanh",
    "softsign",
    "cosine_similarity",
)  # all but the last monotone


class Call(NamedTuple):
    """One call of a function: what it is called, its first two tensors, and what it returned."""

    name: str
    first: Tensor
    second: Tensor | None
    result: Tensor


class Calls(TorchFunctionMode):
    """Keeps the calls that are wanted, in order: of links such as a sigmoid, and what else `keep` asks for.

    Args:
        keep: Called with a function's name and result; True if the call is to be kept.
    """

    def __init__(self, keep: Callable[[str, Tensor], bool] = lambda name, result: False) -> None:
        super().__init__()
        self.keep = keep
        self.kept: list[Call] = []

    @override
    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given = getattr(func, "__name__", "")
        name = given.strip("_")
        tensors = [x for x in [*args, *(kwargs or {}).values()] if isinstance(x, Tensor)]
        in_place = given.endswith("_") and not given.startswith("__")
        if in_place and name in LINKS and tensors:
            tensors[0] = tensors[0].clone()
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Tensor) and tensors and (name in LINKS or self.keep(name, part)):
                self.kept.append(Call(name, tensors[0], tensors[1] if len(tensors) > 1 else None, part))
        return result

    def link_of(self, output: Tensor) -> Call | None:
        """The call of a link whose result is this output, or a view of it."""
        for call in reversed(self.kept):
            if call.name in LINKS and same_numbers(call.result, output):
                return call
        return None


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of one another."""
    if a is b:
        return True
    if a.numel() != b.numel() or a.numel() == 0 or a.device.type == "meta":
        return False
    return a.data_ptr() == b.data_ptr()
