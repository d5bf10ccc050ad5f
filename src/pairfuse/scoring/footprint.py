"""How many bytes scoring takes for each row, column and pair: measured on a few pairs."""

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

FEW, MORE = 2, 4  # rows, and columns, of the sets that are measured


class Footprint(NamedTuple):
    """Bytes that a computation on n × m pairs holds at its peak: `fixed + n row + m column + n m pair`."""

    fixed: int
    row: int
    column: int
    pair: int


class Held(NamedTuple):
    """Bytes that both steps of a plan hold, at one or more moments: the factors, and a tile, its result included."""

    factors: Sequence[int]
    tile: Sequence[int]


class Footprints(NamedTuple):
    """The footprints of both steps of a plan: of the factors, and of a tile, its result included."""

    factors: Footprint
    tile: Footprint


Steps: TypeAlias = Callable[[Plan, Tensor, Tensor], Held]


@torch.no_grad()
def score_steps(plan: Plan, u: Tensor, v: Tensor) -> Held:
    """Score the pairs without gradients."""
    factors, of_factors = record(partial(plan.factors, u, v))
    return Held([max(of_factors)], [max(record(partial(plan, u, v, factors))[1])])


def measure(plan: Plan, u: Tensor, v: Tensor, steps: Steps = score_steps) -> Footprints:
    """Measure the steps of a plan, by default those of scoring, on pairs like those of `u` and `v`.

    The result is cached: `steps` must be hashable, and equal only to what takes the same memory.
    """
    return _cached(_Key((_signature(plan), steps, u.shape[1], v.shape[1], u.dtype, u.device), plan))


class _Key:
    """A key of the cache: it compares like its first part, and carries the plan to measure."""

    def __init__(self, key: tuple[Any, ...], plan: Plan) -> None:
        self.key, self.plan = key, plan

    @override
    def __hash__(self) -> int:
        return hash(self.key)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=256)
def _cached(given: _Key) -> Footprints:
    _, steps, width, width2, dtype, device = given.key
    plan, given.plan = given.plan, None  # type: ignore[assignment]  # the cache must not keep it alive
    try:
        return _measure(_still(plan, {}, hooks=False), steps, width, width2, dtype, device)
    except Exception:  # a hook may be needed, such as one that computes a weight
        return _measure(_still(plan, {}, hooks=True), steps, width, width2, dtype, device)


def _measure(
    still: Any, steps: Steps, width: int, width2: int, dtype: torch.dtype, device: torch.device
) -> Footprints:
    held = [
        steps(still, *(torch.ones(rows, size, dtype=dtype, device=device) for rows, size in ((n, width), (m, width2))))
        for n, m in ((FEW, FEW), (MORE, FEW), (FEW, MORE), (MORE, MORE))
    ]
    return Footprints(_bound([sizes.factors for sizes in held]), _bound([sizes.tile for sizes in held]))


def _bound(held: Sequence[Sequence[int]]) -> Footprint:
    """Bound what is held at each of several moments, given at (a, a), (b, a), (a, b) and (b, b).

    At a few pairs the peak may be at another moment than at many, so that the peaks alone are not enough.
    """
    if len({len(sizes) for sizes in held}) > 1:  # other steps for other sizes
        held = [[max(sizes)] for sizes in held]
    moments = [_solve(sizes) for sizes in zip(*held, strict=True)]
    return Footprint(*(max(sizes) for sizes in zip(*moments, strict=True)))


def _solve(sizes: Sequence[int]) -> Footprint:
    """Solve for the four numbers, given the bytes at (a, a), (b, a), (a, b) and (b, b)."""
    aa, ba, ab, bb = sizes
    step = MORE - FEW
    pair = max(0.0, (bb - ba - ab + aa) / step**2)
    row, column = (max(0.0, (x - aa) / step - FEW * pair) for x in (ba, ab))
    fixed = max(0.0, aa - FEW * (row + column) - FEW**2 * pair)
    return Footprint(*(round(x) for x in (fixed, row, column, pair)))


def record(function: Callable[[], Any]) -> tuple[Any, list[int]]:
    """Call a function; return its result and the bytes that its tensors hold after each of its operations."""
    with _Memory() as memory:
        result = function()
    return result, memory.held


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive among those created inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.held = [0]
        self._storages: dict[int, weakref.ref[Any]] = {}

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._see((args, kwargs), counted=False)
        result = func(*args, **(kwargs or {}))
        self._see(result, counted=True)
        return result

    def _see(self, values: Any, *, counted: bool) -> None:
        for x in tree_leaves(values):
            if isinstance(x, Tensor) and x.layout == torch.strided:
                storage = x.untyped_storage()
                if (key := storage._cdata) not in self._storages:
                    size = storage.nbytes() if counted else 0
                    self._storages[key] = weakref.ref(storage, partial(self._forget, key, size))
                    self.now += size
        if counted:
            self.held.append(self.now)

    def _forget(self, key: int, size: int, _: Any) -> None:
        del self._storages[key]
        self.now -= size


def _still(module: nn.Module, twins: dict[int, Any], *, hooks: bool) -> Any:
    """A copy of a module that shares its weights, in eval mode and without hooks: measuring it changes nothing."""
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
    """All that the memory of a plan may depend on: classes, shapes and plain attributes of its modules."""
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
