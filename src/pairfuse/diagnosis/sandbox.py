"""A sandbox for a module: whatever is done to it inside, it is restored afterwards."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.module_search import all_modules


@contextmanager
def sandbox(module: nn.Module, *, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Let a module compute with copies of its parameters and buffers; restore it afterwards.

    Training it, calling it in either mode, adding hooks or replacing attributes leaves no trace on it or its
    submodules: not in parameters, buffers, gradients, modes, hooks or attributes, nor in the versions that autograd
    checks. Dicts, lists and sets among the attributes, and the tensors in them, are restored too. Changes inside any
    other object stay.

    Args:
        module: The module; not a scripted one.
        dtype: The type of the copies of floating-point tensors; their own by default.
    """
    modules = all_modules(module)
    kept = [(vars(m), dict(vars(m)), _contents(vars(m).values())) for m in modules]
    copies: dict[int, Tensor] = {}  # a parameter that two modules share stays shared

    def copy_of(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = twin = _copy(tensor, dtype)
            copies[id(twin)] = twin  # a recurrent layer puts it into a list of its own
        return copies[id(tensor)]

    try:
        for m in modules:
            _copy_tensors(m, copy_of)
        yield
    finally:
        for attributes, before, contents in kept:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
            for container, content in contents:
                _refill(container, content)


def _copy_tensors(module: nn.Module, copy_of: Callable[[Tensor], Tensor]) -> None:
    attributes = dict(vars(module))
    registered = [*module._parameters.items(), *module._buffers.items()]
    for name, value in [*registered, *attributes.items()]:
        if isinstance(value, Tensor):
            setattr(module, name, copy_of(value))
        elif name in ("_parameters", "_buffers"):
            continue
        elif isinstance(value, dict):
            value.update({key: copy_of(x) for key, x in value.items() if isinstance(x, Tensor)})
        elif isinstance(value, list):
            value[:] = [copy_of(x) if isinstance(x, Tensor) else x for x in value]


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
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state() if numpy else None
    with ExitStack() as stack:
        for device in {d for d in devices if d.type not in ("cpu", "meta")}:
            stack.enter_context(torch.random.fork_rng(devices=[device.index or 0], device_type=device.type))
        try:
            yield
        finally:
            torch.set_rng_state(states[0])
            random.setstate(states[1])
            if numpy:
                numpy.random.set_state(states[2])
