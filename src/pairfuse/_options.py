"""The arguments with which a module was built, read back from its attributes."""

import inspect
from typing import Any

from torch import nn

_NOT_OPTIONS = ("self", "device", "dtype")  # where the tensors are is a property of the tensors


class UnknownOptionError(ValueError):
    """An argument of a constructor cannot be read back."""


def written_class(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module as somebody wrote it: FSDP and parametrizations put one of torch's before it."""
    classes = type(module).__mro__
    wraps = ("torch.distributed.", "torch.nn.utils.")
    return next(cls for cls in classes if not cls.__module__.startswith(wraps))


def parameters_of(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the arguments that the constructor of a class takes by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p for p in found if p.kind in by_name and p.name not in _NOT_OPTIONS}


def read_option(module: nn.Module, parameter: inspect.Parameter) -> Any:
    """Return what a module was given for an argument: its attribute of the same name.

    Raises:
        UnknownOptionError: There is no such attribute.
    """
    try:
        value = getattr(module, parameter.name)
    except AttributeError:
        raise UnknownOptionError(f"{type(module).__name__} has no attribute {parameter.name!r}") from None
    if isinstance(parameter.default, bool) and not isinstance(value, bool):
        return value is not None  # bias=True became a parameter, bias=False became None
    return value


def as_json(value: Any) -> Any:
    """Return a value as JSON has it: a number, a string, a bool, None, or a list of these.

    Raises:
        UnknownOptionError: JSON has no such value.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(x) for x in value]
    if isinstance(value, (int, float)) and value - value == 0:  # neither infinite nor NaN
        return value
    raise UnknownOptionError(f"{value!r:.80} cannot be written as JSON")
