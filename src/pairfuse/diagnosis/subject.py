"""The model under examination: how it is called, what it returns, and on which items."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._batches import Batch, combine, count_items, describe, fit_together, tensors
from pairfuse.diagnosis.borrowing import borrowed
from pairfuse.diagnosis.calls import PROBABILITIES, Call, Calls
from pairfuse.diagnosis.report import Finding

GRID = 16  # items on either side of a grid
CHUNK = 64  # pairs at a time
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INVERTIBLE = ("sigmoid", "softmax", "tanh", "softsign")
DRAWS = 8  # of weights, to see what a model may return
LARGE = 30  # times the present weights, which drives everything that can leave [-1, 1] out of it


class Skip(Exception):  # noqa: N818 - no error: a probe that has nothing to examine says why
    """A probe has nothing to examine."""


class Output(NamedTuple):
    """What a model says of N pairs.

    Attributes:
        logits: `(N,)`; NaN where a probability is too near 0 or 1 to tell its logit.
        values: What the model returned, `(N,)` or `(N, 2)`.
        link: The call of a sigmoid or the like with which it ends, if it was seen.
    """

    logits: Tensor
    values: Tensor
    link: Call | None


class Subject:
    """A model of pairs with the items to examine it on. Inside `lent` a probe may do with the model what it likes.

    Attributes:
        call: The model.
        module: The module that holds its weights, or None if it is not known.
        x1, x2: The given pairs, without gradients.
        y: The targets `(B,)`, or None.
        trained_parts: The parts of the module that are in train mode when the user trains.
        left, right: Different items, at most 16: rows and columns of the grid.
        alike: Whether both sides take the same kind of item; then left and right are the same items.
        weights: Of every parameter its name, its `id` and whether it wants gradients.
        probabilities: Whether the model returns probabilities.
        found: The findings so far, by id.
    """

    def __init__(
        self,
        model: Callable[[Any, Any], Any],
        x1: Batch,
        x2: Batch,
        y: Tensor | None,
        *,
        module: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        loss: Any = None,
        returns: str | None = None,
        allow_additive: bool = False,
    ) -> None:
        self.call = model = unwrapped(model)
        self.module = module if module is not None else find_module(model)
        self.optimizer, self.loss, self.allow_additive = optimizer, loss, allow_additive
        self.x1, self.x2 = (combine(torch.Tensor.detach, x) for x in (x1, x2))
        self.y = y
        self.alike = fit_together(take(x1, [0]), take(x2, [0]))
        self.left, self.right = _different_items(self.x1, self.x2, self.alike)
        self.trained_parts = _parts_in_train_mode(self.module)
        named = [] if self.module is None else self.module.named_parameters()
        self.weights = {name: (id(parameter), parameter.requires_grad) for name, parameter in named}
        self.found: dict[str, Finding] = {}
        self.probabilities = returns == "probabilities"
        self.told = returns is not None

    @property
    def rows(self) -> int:
        """How many left items the grid has."""
        return count_items("x1", self.left)

    @property
    def columns(self) -> int:
        """How many right items the grid has."""
        return count_items("x2", self.right)

    @property
    def trained_norms(self) -> list[nn.Module]:
        """The batch norms among the trained parts."""
        return [part for part in self.trained_parts if isinstance(part, NORMS)]

    @contextmanager
    def lent(self, *, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Inside, the module may be trained and changed: afterwards it is what it was."""
        if self.module is None:
            yield
            return
        with borrowed(self.module, dtype=dtype):
            yield

    def needs_module(self) -> nn.Module:
        """The module; a probe that needs it is skipped where it is not known."""
        if self.module is None:
            raise Skip("the model is a callable whose module is not known: pass module=")
        return self.module

    def score(
        self,
        x1: Batch,
        x2: Batch,
        *,
        trained: Sequence[nn.Module] = (),
        gradients: bool = False,
        calls: Calls | None = None,
    ) -> Output:
        """Call the model without gradients, unless they are wanted, and in eval mode but for the parts `trained`."""
        if self.module is not None:
            set_mode(self.module, trained)
        calls = Calls() if calls is None else calls
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were, or will be, shown when the user calls the model
            pairs = (
                combine(torch.Tensor.clone, x1),
                combine(torch.Tensor.clone, x2),
            )  # a model may write into its inputs
            with calls:
                output = self.call(*pairs)
        count = count_items("x1", x1)
        values = check_output(output, count)
        link = calls.link_of(output)
        if link is not None and link.name == "softmax" and not _sums_to_one(values):
            link = None  # over the batch, or of a single logit
        return Output(self._logits(values, link, count), values, link)

    def _logits(self, values: Tensor, link: Call | None, count: int) -> Tensor:
        if link is not None and link.name in INVERTIBLE:
            values = _columns(link.first, count)  # what went into the link is the logit itself
        elif self.probabilities:
            p = values[:, 1] if values.ndim == 2 else values
            return torch.where((p > 1e-6) & (p < 1 - 1e-4), p, torch.nan).logit()
        return values[:, 1] - values[:, 0] if values.ndim == 2 else values

    def score_all(self, left: Batch, right: Batch) -> Tensor:
        """The logits of all pairs, `(n, m)`, in eval mode and float64."""
        n, m = count_items("x1", left), count_items("x2", right)
        rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
        chunks = [slice(start, start + CHUNK) for start in range(0, n * m, CHUNK)]
        scores = [self.score(take(left, rows[at]), take(right, columns[at])).logits for at in chunks]
        return torch.cat(scores).detach().double().cpu().view(n, m)

    @functools.cached_property
    def grid(self) -> Tensor:
        """The logits of every left item with every right one."""
        return self.score_all(self.left, self.right)

    @functools.cached_property
    def given(self) -> Output:
        """What the model says of the given pairs, at most 256, in eval mode."""
        return self.score(*self.some_pairs())

    @functools.cached_property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value that the model was seen to return."""
        return output_range(self)

    def some_pairs(self) -> tuple[Batch, Batch]:
        """The given pairs, at most 256."""
        return take(self.x1, slice(256)), take(self.x2, slice(256))

    @functools.cached_property
    def precision(self) -> torch.dtype:
        """The coarsest floating-point type that the model computes in."""
        held = [*self.module.parameters(), *self.module.buffers()] if self.module is not None else []
        kinds = {t.dtype for t in [*held, self.given.values] if t.is_floating_point()}
        return max(kinds, key=lambda kind: torch.finfo(kind).eps)


def unwrapped(model: Callable[..., Any]) -> Callable[..., Any]:
    """The module inside what torch wraps around it for compiling, or for several processes or devices."""
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        return unwrapped(model.module)
    inside = getattr(model, "_orig_mod", None)  # of torch.compile
    return model if inside is None else unwrapped(inside)


def take(x: Batch, index: Any) -> Batch:
    """Some items of a batch."""
    return combine(lambda tensor: tensor[index if isinstance(index, slice) else torch.as_tensor(index)], x)


def set_mode(module: nn.Module, trained: Sequence[nn.Module]) -> None:
    """Put these parts into train mode, and all others into eval mode."""
    module.eval()
    for part in trained:
        part.training = True


def _parts_in_train_mode(module: nn.Module | None) -> list[nn.Module]:
    """The parts that are in train mode when the user trains: as they are now, or all, if the model is in eval mode."""
    if module is None:
        return []
    return [part for part in module.modules() if part.training or not module.training]


def find_module(model: Callable[..., Any]) -> nn.Module | None:
    """The module behind a callable: itself, its `self`, or what a function names; None if there is none."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, functools.partial):
        return find_module(model.func)
    if isinstance(owner := getattr(model, "__self__", None), nn.Module):
        return owner
    try:
        names = inspect.getclosurevars(model)
    except TypeError:
        return None
    values = [*names.nonlocals.values(), *names.globals.values()]
    modules = list({id(value): value for value in values if isinstance(value, nn.Module)}.values())
    if len(modules) < 2:
        return modules[0] if modules else None
    return nn.ModuleList(modules)


def check_output(output: Any, count: int) -> Tensor:
    """What a model returned as `(N,)` or `(N, 2)`; raise if it is neither that nor `(N, 1)`."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        came = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(
            f"model must return a floating-point tensor, a score for each pair, got {came}: wrap it, as in "
            "diagnose(lambda x1, x2: model(x1, x2).logits, x1, x2)"
        )
    if output.shape not in ((count,), (count, 1), (count, 2)):
        raise ValueError(
            f"model must return one score for each of {count} pairs, shape ({count},) or ({count}, 1), or two that a "
            f"softmax reads, ({count}, 2), got shape {tuple(output.shape)}"
        )
    return _columns(output, count)


def _columns(output: Tensor, count: int) -> Tensor:
    return output.reshape(count) if output.numel() == count else output


def _different_items(x1: Batch, x2: Batch, alike: bool) -> tuple[Batch, Batch]:
    """Different items for either side of a grid: of one kind the same for both."""
    if not alike:
        sides = [take(x, _first_of_each(x, "x1" if x is x1 else "x2")) for x in (x1, x2)]
        return sides[0], sides[1]
    both = combine(lambda a, b: torch.stack([a[: 8 * GRID], b[: 8 * GRID]], 1).flatten(0, 1), x1, x2)
    items = take(both, _first_of_each(both, "x1 and x2"))
    return items, items


def _first_of_each(x: Batch, name: str) -> list[int]:
    """Where up to 16 different items first stand."""
    places: dict[bytes, int] = {}
    for index in range(count_items(name, x)):
        places.setdefault(item_key(x, index), index)
        if len(places) == GRID:
            break
    if len(places) < 2:
        raise ValueError(f"{name} must hold at least two different items, got {describe(x)} with one and the same")
    return list(places.values())


def item_key(x: Batch, index: int) -> bytes:
    """What an item is, so that two can be told apart."""
    parts = (tensor[index].detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in tensors("x", x))
    return b"|".join(part.numpy().tobytes() for part in parts)


def _sums_to_one(values: Tensor) -> bool:
    return values.ndim == 2 and bool(torch.allclose(values.sum(1), torch.ones_like(values[:, 0]), atol=1e-2))


def output_range(subject: Subject) -> tuple[float, float]:
    """The least and the greatest value that the model was seen to return: as it is, and with large random weights."""
    outputs = [subject.given.values]
    generator = torch.Generator().manual_seed(0)
    x1, x2 = (take(x, slice(8)) for x in subject.some_pairs())
    for _ in range(0 if subject.module is None else DRAWS):
        with borrowed(subject.needs_module()), torch.no_grad():
            for parameter in subject.needs_module().parameters():
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.copy_(LARGE * parameter.square().mean().sqrt() * noise)
            outputs.append(subject.score(x1, x2).values)
    values = torch.cat(outputs)
    values = values[values.isfinite()]
    return (float(values.min()), float(values.max())) if len(values) else (-torch.inf, torch.inf)


def holds_probabilities(subject: Subject) -> bool:
    """Whether what the model returns are probabilities: it ends in a sigmoid, or was never seen to leave [0, 1]."""
    link = subject.given.link
    if link is not None:
        return link.name in PROBABILITIES
    return subject.range[0] >= 0 and subject.range[1] <= 1
