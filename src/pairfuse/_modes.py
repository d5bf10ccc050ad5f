"""Eval mode, for a while and for one caller."""

import threading
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getclosurevars
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

M = TypeVar("M", bound=nn.Module)

_lock = threading.RLock()
_entered = 0  # how often a model was switched
_borrowers: "weakref.WeakKeyDictionary[nn.Module, _Borrowed]" = weakref.WeakKeyDictionary()
_OF_TORCH = frozenset(vars(nn.Module()))  # attributes that torch itself gives every module
_PLAIN = (str, bytes, int, float, complex, type, type(None), torch.Tensor, torch.dtype, torch.device, torch.fx.Graph)


@contextmanager
def eval_mode(model: M) -> Iterator[M]:
    """Yield the model in eval mode: itself if no part of it is in train mode, else a view of it that is.

    A view shares all weights, buffers and hooks with the model, but its modules have flags of their own, so that the
    model stays in its mode: other threads may call or train it at the same time. Attributes that a module sets on
    itself while it runs are handed to the original afterwards.

    A model of which no view can be made (it is scripted or compiled in place, overrides `train`, or keeps references to
    its modules where they cannot be exchanged) is switched itself, once for all callers that are inside, and back when
    the last one leaves. Then training it in another thread meanwhile is not safe.
    """
    entered = _entered
    in_eval = model not in _borrowers and not any(module.training for module in model.modules())
    if in_eval and entered == _entered:  # else somebody may have switched it in between
        yield model
    elif _can_be_viewed(model):
        twins: dict[nn.Module, nn.Module] = {}
        view = _view(model, twins)
        before = {module: dict(vars(twin)) for module, twin in twins.items()}
        try:
            yield view
        finally:
            for module, twin in twins.items():
                for name, value in vars(twin).items():
                    if value is not before[module].get(name, _lock):
                        module.__dict__[name] = value
    else:
        with _switched(model):
            yield model


def _view(module: Any, twins: dict[nn.Module, nn.Module]) -> Any:
    """A module in eval mode that shares everything with the given one but its submodules, which are views too."""
    if module not in twins:
        twin = twins[module] = object.__new__(type(module))
        twin.__dict__.update(vars(module), training=False)
        twin._modules = {name: part and _view(part, twins) for name, part in module._modules.items()}
    return twins[module]


def _can_be_viewed(model: nn.Module) -> bool:
    """True if every way from the model to its modules leads through `_modules`."""
    modules = set(model.modules())
    return all(
        not isinstance(module, torch.jit.ScriptModule)
        and type(module).train is nn.Module.train
        and type(module).eval is nn.Module.eval
        and not any(map(is_lazy, module.parameters(recurse=False)))
        and module._compiled_call_impl is None
        and not any(_leads_to(modules, value, 4) for value in _values_to_search(module))
        for module in modules
    )


def _values_to_search(module: nn.Module) -> Iterator[Any]:
    for name, value in vars(module).items():
        if (name not in _OF_TORCH and name not in ("train", "eval")) or name.endswith("_hooks"):
            yield value


def _leads_to(modules: set[nn.Module], value: Any, depth: int) -> bool:
    """True if a value holds, or may call, one of the modules."""
    if isinstance(value, nn.Module):
        return value in modules
    if isinstance(value, _PLAIN) or depth == 0:
        return False
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [*value]
    elif isinstance(value, types.FunctionType):
        parts = [*getclosurevars(value).nonlocals.values()]
    elif isinstance(value, types.MethodType):
        parts = [value.__self__]
    elif hasattr(value, "__dict__"):
        parts = [*vars(value).values()]
        if callable(getattr(value, "func", None)):  # functools.partial
            parts += [value.func, *getattr(value, "args", ()), *getattr(value, "keywords", {}).values()]
    return any(_leads_to(modules, part, depth - 1) for part in parts)


class _Borrowed:
    """The modes of a model before the first of its callers, and how many there are."""

    def __init__(self, model: nn.Module) -> None:
        self.modes = [(module, module.training) for module in model.modules()]
        self.callers = 0


@contextmanager
def _switched(model: nn.Module) -> Iterator[None]:
    global _entered
    with _lock:
        _entered += 1
        borrowed = _borrowers.setdefault(model, _Borrowed(model))
        borrowed.callers += 1
        if borrowed.callers == 1:
            _switch(borrowed.modes, [False] * len(borrowed.modes))
    try:
        yield
    finally:
        with _lock:
            borrowed.callers -= 1
            if borrowed.callers == 0:
                _switch(borrowed.modes, [training for _, training in borrowed.modes])
                del _borrowers[model]


def _switch(modes: list[tuple[nn.Module, bool]], targets: list[bool]) -> None:
    """Put modules into these modes, parents first, since `train` reaches their children too."""
    for (module, _), training in zip(modes, targets, strict=True):
        if module.training != training:
            module.train(training)  # not only the flag: some modules do more, such as merging weights
