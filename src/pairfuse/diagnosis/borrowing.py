"""Lending a module out so that it comes back as it was."""

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def borrowed(module: nn.Module, *, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Inside, a module computes with copies of its parameters and buffers; afterwards it is what it was.

    Training it, calling it in either mode, adding hooks or replacing attributes leaves no trace on it or its
    submodules: not in parameters, buffers, gradients, modes, hooks or attributes, nor in the versions that a graph of
    the user's checks. What is changed *inside* an object that a module holds as an attribute, other than a dict, list
    or set, stays.

    Args:
        module: The module.
        dtype: What the copies of floating-point tensors are converted to, if to anything.
    """
    modules = list(module.modules())
    kept = [(vars(m), dict(vars(m)), _contents(vars(m).values())) for m in modules]
    copies: dict[int, Tensor] = {}  # a parameter that two modules share stays shared
    try:
        for m in modules:
            plain = {name: value for name, value in vars(m).items() if isinstance(value, Tensor)}
            for name, tensor in [*m._parameters.items(), *m._buffers.items(), *plain.items()]:
                if tensor is not None:
                    setattr(m, name, copies.setdefault(id(tensor), _copy(tensor, dtype)))
        yield
    finally:
        for attributes, before, contents in kept:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
            for container, content in contents:
                _refill(container, content)


def _copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    copy = tensor.detach().clone()
    if dtype is not None and copy.is_floating_point():
        copy = copy.to(dtype)
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy


def _contents(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Every dict, list and set among the values, with a copy of what it holds."""
    return [(value, value.copy()) for value in values if isinstance(value, (dict, list, set))]


def _refill(container: Any, content: Any) -> None:
    same = len(container) == len(content) and all(
        a is b for a, b in zip(_members(container), _members(content), strict=True)
    )
    if not same:
        container.clear()
        getattr(container, "extend" if isinstance(container, list) else "update")(content)


def _members(container: Any) -> list[Any]:
    return [x for item in container.items() for x in item] if isinstance(container, dict) else list(container)


@contextmanager
def random_state_kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """Afterwards the random states of torch, Python and NumPy are as before."""
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for device in {d for d in devices if d.type not in ("cpu", "meta")}:
            stack.enter_context(torch.random.fork_rng(devices=[device.index or 0], device_type=device.type))
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(numpy_state)
