"""What a loss does with the scores, seen from its calls of sigmoids, logarithms and cross-entropies."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

CROSS_ENTROPIES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
SIGMOIDS = (
    *("sigmoid", "special_expit", "hardsigmoid", "logsigmoid", "log_sigmoid", "softplus", "special_ndtr"),
    *("special_log_ndtr", "softmax", "log_softmax", "cross_entropy", "binary_cross_entropy_with_logits"),
    "soft_margin_loss",
)
LOGARITHMS = ("binary_cross_entropy", "log", "log2", "log10")
MOST = 16  # rows of a call that are looked at
LOW, HIGH = 0.1, 0.9  # scores in between are neither clamped nor undefined


class Reading(NamedTuple):
    """A call whose first argument is made of the scores.

    Attributes:
        name: The function.
        slopes, offsets: Its argument is `slope * score + offset`, for some of its elements; None if an element is made
            of several scores, or not linear in its score.
        same: Which of these elements are of pairs whose target is 1.
        columns: 2 if a pair has two scores, otherwise 1.
        target: The second argument, if it is a tensor.
    """

    name: str
    slopes: Tensor | None
    offsets: Tensor
    same: Tensor
    columns: int
    target: Tensor | None


class _Calls(TorchFunctionMode):
    """Keep the name and the tensors of every wanted call."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, Tensor, Tensor | None]] = []

    @override
    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        given = [x for x in [*args, *(kwargs or {}).values()] if isinstance(x, Tensor)]
        if name in (*SIGMOIDS, *LOGARITHMS) and given and given[0].requires_grad:
            self.kept.append((name, given[0], given[1] if len(given) > 1 else None))
        return func(*args, **(kwargs or {}))


def readings(loss: Callable[..., Any], shape: tuple[int, ...], *, least: float = 0.0) -> Iterator[Reading]:
    """How a loss reads scores of a shape, where targets of 1 and `least` alternate; nothing if it takes no such scores.

    The loss is called twice, with scores from 0.1 to 0.9.
    """
    columns = shape[1] if len(shape) == 2 else 1
    pairs = math.prod(shape) // columns
    same = torch.arange(pairs) % 2 == 0
    targets = torch.where(same, 1.0, least)
    targets = targets.reshape(shape) if columns == 1 else targets
    generator = torch.Generator().manual_seed(0)
    runs: list[tuple[Tensor, list[tuple[str, Tensor, Tensor | None]]]] = []
    for _ in range(2):
        scores = (LOW + (HIGH - LOW) * torch.rand(shape, generator=generator)).requires_grad_()
        calls = _Calls()
        try:
            with torch.enable_grad(), warnings.catch_warnings(), calls:
                warnings.simplefilter("ignore")
                loss(scores, targets if columns == 1 else targets.long())
        except Exception:  # it takes no such scores or targets; what it called before counts
            if not calls.kept:
                return
        runs.append((scores, calls.kept))
    (scores, first), (others, second) = runs
    if [name for name, *_ in first] != [name for name, *_ in second]:
        return
    for (name, argument, target), (_, other, _) in zip(first, second, strict=True):
        made = _line(argument, scores), _line(other, others)
        slopes, offsets, of = made[0] or (None, torch.zeros(0), torch.zeros(0, dtype=torch.long))
        if made[1] is None or slopes is None or not _agree(made[0], made[1]):
            slopes = None
        yield Reading(name, slopes, offsets, same[of // columns], columns, None if target is None else target.detach())


Line = tuple[Tensor, Tensor, Tensor]  # slopes, offsets, and the index of the score


def _line(argument: Tensor, scores: Tensor) -> Line | None:
    """The tangents of some elements of an argument; None if one is made of several scores, or of none."""
    elements = argument.flatten()
    rows = torch.linspace(0, len(elements) - 1, min(MOST, len(elements))).long()
    slopes, offsets, of = [], [], []
    for row in rows.tolist():
        (gradient,) = torch.autograd.grad(elements[row], scores, retain_graph=True, allow_unused=True)
        read = torch.zeros(0) if gradient is None else gradient.flatten().nonzero().flatten()
        if len(read) != 1:
            return None
        slope = gradient.flatten()[read[0]]
        slopes.append(slope)
        offsets.append((elements[row] - slope * scores.flatten()[read[0]]).detach())
        of.append(read[0])
    return torch.stack(slopes), torch.stack(offsets), torch.stack(of)


def _agree(a: Line | None, b: Line | None) -> bool:
    if a is None or b is None:
        return False
    return all(x.shape == y.shape and torch.allclose(x, y, atol=1e-4) for x, y in zip(a[:2], b[:2], strict=True))
