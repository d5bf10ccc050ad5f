"""Bytes that scoring needs for each row, column and pair, measured on a few pairs."""

import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from pairfuse.scoring.plan import Plan

FEW, MORE = 2, 4  # numbers of rows and columns that are measured


class Footprint(NamedTuple):
    """Peak bytes of a computation on n × m pairs: `fixed + n row + m column + n m pair`."""

    fixed: int
    row: int
    column: int
    pair: int


Curves: TypeAlias = Sequence[list[int]]
"""For each step of a computation, the bytes that are alive after each of its operators."""
Steps: TypeAlias = Callable[[Plan, Tensor, Tensor], Curves]


@torch.no_grad()
def score_steps(plan: Plan, u: Tensor, v: Tensor) -> Curves:
    """Score all pairs without gradients, in two steps: the factors, and a tile with its scores."""
    factors, of_factors = watch(partial(plan.factors, u, v))
    return of_factors, watch(partial(plan, u, v, factors))[1]


def measure(plan: Plan, u: Tensor, v: Tensor, steps: Steps = score_steps) -> tuple[Footprint, ...]:
    """Measure the steps of a plan on pairs of the widths, dtype and device of `u` and `v`.

    Results are cached, so `steps` must be hashable, and equal only to steps that take the same memory.
    """
    return _cached(_Key((_signature(plan), steps, u.shape[1], v.shape[1], u.dtype, u.device), plan))


class _Key:
    """A key of the cache. It compares by `key` and also holds the plan to measure."""

    def __init__(self, key: tuple[Any, ...], plan: Plan) -> None:
        self.key, self.plan = key, plan

    @override
    def __hash__(self) -> int:
        return hash(self.key)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=256)
def _cached(given: _Key) -> tuple[Footprint, ...]:
    _, steps, width, width2, dtype, device = given.key
    plan, given.plan = given.plan, None  # type: ignore[assignment]  # the cache must not keep it alive
    try:
        return _measure(_still(plan, {}, hooks=False), steps, width, width2, dtype, device)
    except Exception:  # a hook may be needed, such as one that computes a weight
        return _measure(_still(plan, {}, hooks=True), steps, width, width2, dtype, device)


def _measure(
    still: Any, steps: Steps, width: int, width2: int, dtype: torch.dtype, device: torch.device
) -> tuple[Footprint, ...]:
    curves: list[Curves] = []
    for n, m in ((FEW, FEW), (MORE, FEW), (FEW, MORE), (MORE, MORE)):
        u = torch.ones(n, width, dtype=dtype, device=device)
        v = torch.ones(m, width2, dtype=dtype, device=device)
        curves.append(steps(still, u, v))
    return tuple(_solve(curves_of_step) for curves_of_step in zip(*curves, strict=True))


def _solve(curves: Sequence[list[int]]) -> Footprint:
    """Return the four numbers, given the bytes over time at (a, a), (b, a), (a, b) and (b, b).

    Each moment has numbers of its own: what a few rows hold may hide what many pairs hold at another moment.
    """
    if len({len(curve) for curve in curves}) > 1:  # other operators for other sizes
        curves = [[max(curve, default=0)] for curve in curves]
    moments = [_solve_moment(*sizes) for sizes in zip(*curves, strict=True)]
    return Footprint(*(round(max(numbers)) for numbers in zip((0, 0, 0, 0), *moments, strict=True)))


def _solve_moment(aa: int, ba: int, ab: int, bb: int) -> tuple[float, float, float, float]:
    step = MORE - FEW
    pair = (bb - ba - ab + aa) / step**2
    row, column = ((x - aa) / step - FEW * pair for x in (ba, ab))
    return aa - FEW * (row + column) - FEW**2 * pair, row, column, pair


def watch(function: Callable[[], Any]) -> tuple[Any, list[int]]:
    """Call a function. Return its result and the bytes of its tensors after each operator."""
    with _Memory() as memory:
        result = function()
    return result, memory.curve


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all live tensors that were created in this context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.curve: list[int] = []  # the bytes alive after each operator
        self._storages: dict[int, weakref.ref[Any]] = {}

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._see((args, kwargs), counted=False)
        result = func(*args, **(kwargs or {}))
        self._see(result, counted=True)
        self.curve.append(self.now)
        return result

    def _see(self, values: Any, *, counted: bool) -> None:
        for x in tree_leaves(values):
            if isinstance(x, Tensor) and x.layout == torch.strided:
                storage = x.untyped_storage()
                if (key := storage._cdata) not in self._storages:
                    size = storage.nbytes() if counted else 0
                    self._storages[key] = weakref.ref(storage, partial(self._forget, key, size))
                    self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int, _: Any) -> None:
        del self._storages[key]
        self.now -= size


def _still(module: nn.Module, twins: dict[int, Any], *, hooks: bool) -> Any:
    """Return a copy of a module that shares its weights, in eval mode. Measuring it changes nothing."""
    if id(module) not in twins:
        twin = twins[id(module)] = object.__new__(type(module))
        twin.__dict__ = dict(vars(module), training=False)
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict) and not hooks:
                twin.__dict__[name] = type(value)()
        twin._modules = {name: part and _still(part, twins, hooks=hooks) for name, part in module._modules.items()}
        if isinstance(module, Plan):
            for name in ("pair_by_pair", "features_first", "direct"):
                leaves = [
                    leaf._replace(fusion=_still(leaf.fusion, twins, hooks=hooks)) for leaf in getattr(module, name)
                ]
                setattr(twin, name, leaves)
    return twins[id(module)]


def _signature(plan: Plan) -> Hashable:
    """Return everything that the memory of a plan may depend on: classes, shapes and attributes of its modules."""
    plain = (int, float, bool, str, type(None))
    return tuple(
        (
            type(module),
            tuple((name, value) for name, value in vars(module).items() if isinstance(value, plain)),
            tuple(
                (x.shape, x.dtype) for x in (*module._parameters.values(), *module._buffers.values()) if x is not None
            ),
        )
        for module in plan.modules()
    )
