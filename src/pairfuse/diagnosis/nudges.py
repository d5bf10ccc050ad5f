"""Changing every number that a model computes a little, to see how much rounding may change its scores."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from pairfuse.diagnosis.function_recorder import PROBABILITIES


class Nudges(TorchFunctionMode):
    """Take a random share, at most `size`, off every element of every floating-point result, as if it were rounding.

    No number grows, so that what is valid stays valid, such as an index. Probabilities and views stay as they are.

    Args:
        size: The largest share.
    """

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size
        self.generator = torch.Generator().manual_seed(0)

    @override
    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__") or name.strip("_") in PROBABILITIES:
            return result
        given = {_place(x) for x in [*args, *(kwargs or {}).values()] if isinstance(x, Tensor)}
        if type(result) is tuple:
            return tuple(self._nudged_if_new(part, given) for part in result)
        return self._nudged_if_new(result, given)

    def nudged(self, tensor: Tensor) -> Tensor:
        """A changed copy of a tensor; the same one if it is not of a floating-point type."""
        if not tensor.is_floating_point():
            return tensor
        return tensor * (1 - self.size * torch.rand(tensor.shape, generator=self.generator).to(tensor))

    def _nudged_if_new(self, result: Any, given: set[int]) -> Any:
        return self.nudged(result) if type(result) is Tensor and _place(result) not in given else result


def _place(tensor: Tensor) -> int:
    """Where the numbers are; the same for a view, and for what was changed in place."""
    return tensor.untyped_storage().data_ptr() if type(tensor) is Tensor else id(tensor)
