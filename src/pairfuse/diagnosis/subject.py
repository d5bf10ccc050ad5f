"""The model under examination: how it is called, what it returns, and on which items."""

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.function_recorder import BOUNDED, LOGIT_LINKS, MONOTONE, PROBABILITIES, Call, Calls
from pairfuse.diagnosis.module_search import all_modules, find_module, named_weights, unwrapped
from pairfuse.diagnosis.report import Finding
from pairfuse.diagnosis.sample import different_items, take
from pairfuse.diagnosis.sandbox import borrowed
from pairfuse.items.batches import Batch, combine, count_items, fit_together

CHUNK = 64  # pairs at a time
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DRAWS = 8  # of weights at either scale, to see what a model may return; at least as many must be finite
LARGE = 30  # times the present weights, which drives what can leave [-1, 1] out of it


class Skip(Exception):  # noqa: N818 - no error: a probe that has nothing to examine says why
    """A probe has nothing to examine."""


class Output(NamedTuple):
    """What a model says of N pairs.

    Attributes:
        logits: `(N,)`; NaN where a probability is too near 0 or 1 to tell its logit.
        inner: `(N,)`: what goes into the last function, if that is one that never decreases; otherwise the logits.
        values: What the model returned, `(N,)` or `(N, 2)`.
        returned: The same in the shape in which it came.
        link: The call of a sigmoid or the like with which it ends, if it was seen.
    """

    logits: Tensor
    inner: Tensor
    values: Tensor
    returned: Tensor
    link: Call | None

    @property
    def scores(self) -> Tensor:
        """`(N,)`: the values, of two that of "same"."""
        return self.values[:, 1] if self.values.ndim == 2 else self.values


class Subject:
    """A model of pairs with the items to examine it on. Inside `lent` a probe may do with the model what it likes.

    Attributes:
        call: The model.
        module: The module that holds its weights, or None if it is not known.
        x1, x2: The given pairs, without gradients.
        y: The targets `(B,)`, float64, or None.
        given_y: The targets as they were given.
        same: Which pairs are the same `(B,)`, or None.
        left, right: Different items, at most 16: rows and columns of the grid.
        alike: Whether both sides take the same kind of item; then left and right are the same items.
        weights: Of every parameter its name, its `id` and whether it wants gradients.
        probabilities: Whether the model returns probabilities.
        random: Whether it says something else of the same pairs each time, in eval mode.
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
        self.scripted = _scripted(self.call, self.module)
        self.optimizer, self.loss, self.allow_additive = optimizer, loss, allow_additive
        self.x1, self.x2 = (combine(_plain, x) for x in (x1, x2))
        self.given_y, self.y, self.same = y, None, None
        if y is not None:
            self.y = y.detach().reshape(len(y)).double().cpu()
            self.same = self.y > (0.5 if bool((self.y >= 0).all()) else 0)
        self.alike = fit_together(take(x1, [0]), take(x2, [0]))
        self.left, self.right = different_items(self.x1, self.x2, self.alike)
        self._training = _training(self.module)
        named = {} if self.module is None else named_weights(self.module)
        self.weights = {name: (id(parameter), parameter.requires_grad) for name, parameter in named.items()}
        self.found: dict[str, Finding] = {}
        self.returns = returns
        self.probabilities = returns == "probabilities"
        self.random = False

    def prepare(self) -> None:
        """Call the model, so that whatever is wrong with its arguments is said before any probe."""
        few = [take(x, slice(8)) for x in self.some_pairs()]
        self.random = not _equal(self.score(*few).scores, self.score(*few).scores)
        if self.returns is None:
            self.probabilities = _holds_probabilities(self)
            del self.given  # its logits are others now
        _ = self.given, self.grid

    @property
    def rows(self) -> int:
        """How many left items the grid has."""
        return count_items("x1", self.left)

    @property
    def columns(self) -> int:
        """How many right items the grid has."""
        return count_items("x2", self.right)

    @property
    def trained_parts(self) -> list[nn.Module]:
        """The parts of the module that are in train mode when the user trains."""
        modules = [] if self.module is None else self.module.modules()
        return [part for part, training in zip(modules, self._training, strict=True) if training]

    @property
    def trained_norms(self) -> list[nn.Module]:
        """The batch norms among the trained parts."""
        return [part for part in self.trained_parts if isinstance(part, NORMS)]

    @contextmanager
    def lent(self, *, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Inside, the module may be trained and changed: afterwards it is what it was."""
        if self.module is None:
            yield
        elif self.scripted is not None:
            before = self.call, self.module
            self.call = self.module = _copy_of_scripted(self.scripted, dtype)
            try:
                yield
            finally:
                self.call, self.module = before
        else:
            with borrowed(self.module, dtype=dtype):
                yield

    def needs_module(self) -> nn.Module:
        """The module; a probe that needs it is skipped where it is not known."""
        if self.module is None:
            raise Skip("the model is a callable whose module is not known: pass module=")
        return self.module

    def needs_varied_scores(self) -> None:
        """A probe that compares scores is skipped where they are all the same."""
        if "constant-output" in self.found and self.found["constant-output"].verdict != "ok":
            raise Skip("every score is the same: see constant-output")

    def redraw(self, scale: float, seed: int = 0) -> None:
        """Move every weight, and every buffer but a norm's, by so many times its size; by `scale` from zero."""
        generator = torch.Generator().manual_seed(seed)
        module = self.needs_module()
        buffers = [b for m in all_modules(module) if not isinstance(m, NORMS) for b in m.buffers(recurse=False)]
        for tensor in [*named_weights(module).values(), *buffers]:
            if tensor.is_floating_point():
                size = tensor.square().mean().sqrt()
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
                tensor.add_(noise * torch.where(size > 0, size, 1.0) * scale)

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
            pairs = [combine(torch.Tensor.clone, x) for x in (x1, x2)]  # a model may write into its inputs
            with calls:
                output = self.call(*pairs)
            values = check_output(output, count_items("x1", x1))
            link = calls.link_of(output)
            if link is not None and not _is_known(link, values):
                link = None
            return Output(self._logits(values, link), self._inner(values, link), values, output, link)

    def _logits(self, values: Tensor, link: Call | None) -> Tensor:
        if link is not None and link.name in LOGIT_LINKS:
            values = _columns(link.first, len(values))  # what went in is the logit itself
        elif self.probabilities:
            p = values[:, 1] if values.ndim == 2 else values
            return torch.where((p > 1e-6) & (p < 1 - 1e-4), p, torch.nan).logit()
        return values[:, 1] - values[:, 0] if values.ndim == 2 else values

    def _inner(self, values: Tensor, link: Call | None) -> Tensor:
        if link is None or link.name not in MONOTONE:
            return self._logits(values, link)
        first = _columns(link.first, len(values))
        return first[:, 1] - first[:, 0] if first.ndim == 2 else first

    def score_all(self, left: Batch, right: Batch, *, of: str = "logits") -> Tensor:
        """The logits of all pairs, or another field of `Output`, `(n, m)`, in eval mode and float64."""
        n, m = count_items("x1", left), count_items("x2", right)
        rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
        chunks = [slice(start, start + CHUNK) for start in range(0, n * m, CHUNK)]
        scores = [getattr(self.score(take(left, rows[at]), take(right, columns[at])), of) for at in chunks]
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
        return _output_range(self)

    @property
    def returns_distance(self) -> bool:
        """Whether no score is ever below 0, whatever the weights, and they are no probabilities."""
        return self.module is not None and not self.probabilities and self.range[0] >= 0 and self.range[1] > 0

    def some_pairs(self) -> tuple[Batch, Batch]:
        """The given pairs, at most 256."""
        return take(self.x1, slice(256)), take(self.x2, slice(256))

    @functools.cached_property
    def precision(self) -> torch.dtype:
        """The coarsest floating-point type that the model computes in."""
        held = [*self.module.parameters(), *self.module.buffers()] if self.module is not None else []
        kinds = {t.dtype for t in [*held, self.given.values] if t.is_floating_point()}
        return max(kinds, key=lambda kind: torch.finfo(kind).eps)


def set_mode(module: nn.Module, trained: Sequence[nn.Module]) -> None:
    """Put these parts into train mode, and all others into eval mode."""
    module.eval()
    for part in trained:
        part.training = True


def _training(module: nn.Module | None) -> list[bool]:
    """Which parts are in train mode when the user trains: as they are now, or all, if the model is in eval mode."""
    if module is None:
        return []
    return [part.training or not module.training for part in module.modules()]


def _scripted(call: Callable[..., Any], module: nn.Module | None) -> nn.Module | None:
    """The module, if it is a scripted one or holds one: its attributes live elsewhere, and cannot be exchanged."""
    if module is None or not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return None
    if call is not module:
        raise TypeError("model must be the module itself where it is scripted or traced, got a callable around it")
    return module


def _copy_of_scripted(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    with torch.no_grad():  # or the copies would be results of the originals
        twin = copy.deepcopy(module)
    if dtype is not None:
        twin.to(dtype)
    for original, parameter in zip(module.parameters(), twin.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
        parameter.grad = None
    return twin


def _plain(x: Tensor) -> Tensor:
    return x.clone() if x.is_inference() else x.detach()


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


def _is_known(link: Call, values: Tensor) -> bool:
    """False where a link does not act on each score by itself: a softmax over the batch, or of a single logit."""
    if link.name in MONOTONE and link.first.numel() != values.numel():
        return False
    if link.name != "softmax":
        return True
    return values.ndim == 2 and bool(torch.allclose(values.sum(1), torch.ones_like(values[:, 0]), atol=1e-2))


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _output_range(subject: Subject) -> tuple[float, float]:
    """The least and the greatest value that the model was seen to return: as it is, and with random weights.

    Of a deep model large weights make nothing but infinities; therefore only the last layer's are large in half of the
    draws. Where too few are finite nothing is known.
    """
    outputs, module = [subject.given.scores], subject.module
    generator = torch.Generator().manual_seed(0)
    x1, x2 = (take(x, slice(8)) for x in subject.some_pairs())
    finite = 0
    for large in ("last", "all") if module is not None else ():
        for _ in range(DRAWS):
            with subject.lent(), torch.no_grad():
                parameters = [p for p in subject.needs_module().parameters() if p.is_floating_point()]
                for index, parameter in enumerate(parameters):
                    size = parameter.square().mean().sqrt()
                    scale = LARGE if large == "all" or index >= len(parameters) - 2 else 1
                    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                    parameter.copy_(scale * torch.where(size > 0, size, 1.0) * noise)
                scores = subject.score(x1, x2).scores
            finite += bool(scores.isfinite().all())
            outputs.append(scores)
    values = torch.cat(outputs)
    values = values[values.isfinite()]
    if len(values) == 0 or (subject.weights and finite < DRAWS):
        return -torch.inf, torch.inf
    return float(values.min()), float(values.max())


def _holds_probabilities(subject: Subject) -> bool:
    """Whether what the model returns are probabilities: it ends in a sigmoid, or was never seen to leave [0, 1]."""
    link = subject.given.link
    if link is not None and link.name in (*PROBABILITIES, *BOUNDED):
        return link.name in PROBABILITIES
    return subject.range[0] >= 0 and subject.range[1] <= 1
