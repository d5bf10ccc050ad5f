"""Temporary eval mode that other threads do not see, and frozen copies."""

import copy
import threading
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

M = TypeVar("M", bound=nn.Module)

_lock = threading.RLock()
_entered = 0  # number of times a model was switched
_loans: "weakref.WeakKeyDictionary[nn.Module, _Loan]" = weakref.WeakKeyDictionary()  # modules switched to eval mode
_OF_TORCH = frozenset(vars(nn.Module()))  # attributes that torch itself gives every module
_PLAIN = (str, bytes, int, float, complex, type, type(None), torch.Tensor, torch.dtype, torch.device, torch.fx.Graph)


@contextmanager
def eval_mode(model: M) -> Iterator[M]:
    """Yield the model in eval mode: the model itself if all of it is in eval mode, else a view of it.

    A view shares all weights, buffers and hooks with the model, but its modules have their own `training` flags. The
    model keeps its mode, so other threads can call or train it at the same time. Attributes and submodules that a
    module sets or deletes on itself while it runs are set or deleted on the original afterwards.

    Some models have no view: they are scripted or compiled in place, override `train`, or keep references to their
    modules where these cannot be replaced. Such a model is switched itself when the first caller enters, and back when
    the last one leaves. Meanwhile it is not safe to train it in another thread.
    """
    entered = _entered
    in_eval = not any(module in _loans or is_training(module) for module in model.modules())
    if in_eval and entered == _entered:  # else another thread may have switched it in between
        yield model
    elif _can_be_viewed(model):
        twins: dict[nn.Module, nn.Module] = {}
        view = _view(model, twins)
        originals: dict[Any, Any] = {twin: module for module, twin in twins.items()}
        before = {module: (dict(vars(twin)), dict(module._modules)) for module, twin in twins.items()}
        try:
            yield view
        finally:
            for module, twin in twins.items():
                _repeat_changes(before[module][0], vars(twin), vars(module))
                parts = {name: originals.get(part, part) for name, part in twin._modules.items()}
                _repeat_changes(before[module][1], parts, module._modules)
    else:
        with _switched(model):
            yield model


def _repeat_changes(before: dict[str, Any], after: dict[str, Any], target: dict[str, Any]) -> None:
    """Set and delete in a third dict what differs between two."""
    target.update({name: value for name, value in after.items() if value is not before.get(name, _lock)})
    for name in before.keys() - after.keys():
        target.pop(name, None)


def is_training(module: nn.Module) -> bool:
    """True in train mode; a frozen scripted module has no mode."""
    return bool(getattr(module, "training", False))


def set_mode(module: nn.Module, training: bool) -> None:
    """Do what `module.train(training)` does. Of a part that refuses it, as an exported one does, set the flag alone."""
    try:
        module.train(training)
    except NotImplementedError:
        module.training = training
        for child in module.children():
            set_mode(child, training)


def frozen_copy(owner: str, model: M) -> M:
    """Return a copy of a model in eval mode, whose weights need no gradients."""
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        error.add_note(f"{owner} copies the model, so that later training does not change the copy")
        raise
    set_mode(copied, False)
    return copied.requires_grad_(False)


def _view(module: Any, twins: dict[nn.Module, nn.Module]) -> Any:
    """Return a copy in eval mode that shares everything except its submodules, which are views too."""
    if module not in twins:
        twin = twins[module] = object.__new__(type(module))
        twin.__dict__.update(vars(module), training=False)
        twin._modules = {name: None if part is None else _view(part, twins) for name, part in module._modules.items()}
    return twins[module]


def _can_be_viewed(model: nn.Module) -> bool:
    """True if all references from the model to its modules are in `_modules`."""
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
    if isinstance(module, torch.fx.GraphModule):
        return  # its code is made from a graph, and reaches nothing else
    for name, value in vars(module).items():
        if (name not in _OF_TORCH and name not in ("train", "eval")) or name.endswith("_hooks"):
            yield value


def _leads_to(modules: set[nn.Module], value: Any, depth: int) -> bool:
    """True if a value holds, or may call, one of the modules."""
    if isinstance(value, nn.Module):
        return value in modules
    if isinstance(value, _PLAIN) or (isinstance(value, types.FunctionType) and value.__module__.startswith("torch.")):
        return False
    if depth == 0:
        return True
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [*value]
    elif callable(value) or not hasattr(value, "__dict__") or hasattr(type(value), "__slots__"):
        return True  # a function of the user's may reach anything
    parts += vars(value).values() if hasattr(value, "__dict__") else []
    return any(_leads_to(modules, part, depth - 1) for part in parts)


class _Loan:
    """The mode of a module before its first caller, and the number of callers that need it in eval mode."""

    def __init__(self, module: nn.Module) -> None:
        self.has_mode = hasattr(module, "training")
        self.training = is_training(module)
        self.callers = 0


@contextmanager
def _switched(model: nn.Module) -> Iterator[None]:
    """Switch the modules of a model to eval mode. Modules that several models share are counted one by one."""
    global _entered
    modules = list(model.modules())
    with _lock:
        _entered += 1
        for module in modules:
            _loans.setdefault(module, _Loan(module)).callers += 1
    try:
        with _lock:
            for module in modules:
                if is_training(module):
                    set_mode(module, False)  # not just the flag: some modules do more here, such as merging weights
        yield
    finally:
        with _lock:
            _return(modules)


def _return(modules: list[nn.Module]) -> None:
    """Put the modules that no other caller needs back into their modes, parents first."""
    for module in modules:
        _loans[module].callers -= 1
    free = [(module, _loans[module]) for module in modules if _loans[module].callers == 0]
    for module, loan in free:
        changed = is_training(module) != loan.training
        if not loan.has_mode:
            vars(module).pop("training", None)  # which the `train` of its parent has set
        elif changed and any(part in _loans and _loans[part].callers for part in module.modules()):
            module.training = loan.training  # `train` would also set the parts that others need
        elif changed:
            set_mode(module, loan.training)
    for module, _ in free:  # only now: until then `eval_mode` must not take them for modules in eval mode
        del _loans[module]
