"""Recording which functions of torch a model calls, whatever it is made of."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

PROBABILITIES = ("sigmoid", "softmax", "hardsigmoid")
LOGIT_ACTIVATIONS = ("sigmoid", "softmax")  # whose argument is the logit
BOUNDED = ("tanh", "hardtanh", "softsign", "cosine_similarity")
# Never decreasing, so that no comparison is in them: the input shows as much of a model as the output.
MONOTONE = (
    *("sigmoid", "softmax", "hardsigmoid", "tanh", "hardtanh", "softsign", "logsigmoid", "special_ndtr", "exp"),
    *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "softplus", "clamp"),
)
ACTIVATIONS = (*MONOTONE, *BOUNDED, "log_softmax")
CONVERSIONS = ("to", "float", "double")


class Call(NamedTuple):
    """One call of a function: its name, its first two tensors, its result, and the version of that."""

    name: str
    first: Tensor
    second: Tensor | None
    result: Tensor
    version: int


class FunctionRecorder(TorchFunctionMode):
    """Keep the calls that are wanted, in order: of activations such as a sigmoid, and those that `keep` asks for.

    Args:
        keep: Called with a function's name and result; True if the call is to be kept.
    """

    def __init__(self, keep: Callable[[str, Tensor], bool] = lambda name, result: False) -> None:
        super().__init__()
        self.keep = keep
        self.kept: list[Call] = []
        self.precision = torch.float64  # the coarsest floating-point type seen

    @override
    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given = getattr(func, "__name__", "")
        name = given.strip("_")
        tensors = [x for x in [*args, *(kwargs or {}).values()] if isinstance(x, Tensor)]
        in_place = (given.endswith("_") and not given.startswith("__")) or (kwargs or {}).get("inplace", False)
        if in_place and name in ACTIVATIONS and tensors:
            tensors[0] = tensors[0].clone()
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if not isinstance(part, Tensor):
                continue
            if part.is_floating_point() and torch.finfo(part.dtype).eps > torch.finfo(self.precision).eps:
                self.precision = part.dtype
            if tensors and (name in ACTIVATIONS or name in CONVERSIONS or self.keep(name, part)):
                second = tensors[1] if len(tensors) > 1 else None
                self.kept.append(Call(name, tensors[0], second, part, part._version))
        return result

    def final_activation(self, output: Tensor) -> Call | None:
        """The call of an activation whose result is this output, or a view of it, or the same in another type."""
        for call in reversed(self.kept):
            if not same_numbers(call.result, output) or call.result._version != call.version:
                continue
            if call.name in ACTIVATIONS:
                return call
            if call.name in CONVERSIONS and call.first is not output:
                return self.final_activation(call.first)
        return None


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """True if two tensors are views of one another."""
    if a is b:
        return True
    if a.numel() != b.numel() or a.numel() == 0 or a.device.type == "meta":
        return False
    return a.data_ptr() == b.data_ptr()
