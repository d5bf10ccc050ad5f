"""Finding the modules of a model: behind a callable, and where torch does not look for them."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

DEPTH = 4  # from a function to the object that it names, to its list, to the module


def unwrapped(model: Callable[..., Any]) -> Callable[..., Any]:
    """The module inside torch's wrappers for compiling, or for several processes or devices."""
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        return unwrapped(model.module)
    inside = getattr(model, "_orig_mod", None)  # of torch.compile
    return model if inside is None else unwrapped(inside)


def find_module(model: Callable[..., Any]) -> nn.Module | None:
    """The module behind a callable: itself, or those that it reaches by name; None if there is none."""
    modules = list(dict.fromkeys(_reached(model, DEPTH)))
    if len(modules) < 2:
        return modules[0] if modules else None
    return nn.ModuleList(modules)


def all_modules(module: nn.Module) -> list[nn.Module]:
    """A module, its submodules, and those that they hold in plain lists or dicts, which torch does not see."""
    found: dict[nn.Module, None] = {}
    waiting = [module]
    while waiting:
        for part in waiting.pop().modules():
            if part not in found:
                found[part] = None
                for value in vars(part).values():
                    if isinstance(value, (dict, list, tuple)):
                        waiting += [m for m in _members(value) if isinstance(m, nn.Module) and m not in found]
    return list(found)


def named_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter by its name, those of modules in plain lists or dicts too."""
    weights = dict(module.named_parameters())
    known = set(map(id, weights.values()))
    for number, part in enumerate(all_modules(module)):
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) not in known:
                known.add(id(parameter))
                weights[f"{type(part).__name__} {number} in a plain list or dict: {name}"] = parameter
    return weights


def _reached(value: Any, depth: int) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif depth == 0 or isinstance(value, (ModuleType, type, BuiltinFunctionType, str, bytes, int, float)):
        return
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _reached(part, depth - 1)
    elif isinstance(value, MethodType):
        yield from _reached(value.__self__, depth - 1)
    elif isinstance(value, FunctionType):
        names = inspect.getclosurevars(value)
        for part in (*names.nonlocals.values(), *names.globals.values(), *(value.__defaults__ or ())):
            yield from _reached(part, depth - 1)
    elif isinstance(value, (Mapping, list, tuple)):
        for part in _members(value):
            yield from _reached(part, depth - 1)
    else:
        for part in _members(getattr(value, "__dict__", {})):
            yield from _reached(part, depth - 1)


def _members(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, Mapping) else container)[:100]
