"""The kind of a loss: which scores and targets it expects, from its class, its calls, or its values."""

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn

from pairfuse.diagnosis.loss_calls import CROSS_ENTROPIES, LOGARITHMS, SIGMOIDS, Reading, readings
from pairfuse.diagnosis.sandbox import sandbox

F = nn.functional
SIGNED = (nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.CosineEmbeddingLoss, nn.MarginRankingLoss)  # targets -1 and 1
OF_LOGITS = (nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.SoftMarginLoss)
NARROW = 0.5  # a sigmoid that cannot pass so much of [0, 1] for scores in [0, 1] was meant for logits
EXACT = 1e-3


class LossKind(NamedTuple):
    """What a loss expects.

    Attributes:
        takes: `"logits"` if it applies a sigmoid or a softmax itself, `"probabilities"`, or None if neither is known.
        seen: True if its class or its calls say so; otherwise its values suggest it.
    """

    takes: Literal["logits", "probabilities"] | None
    seen: bool


def kind_of(loss: Callable[..., Any] | None, shape: tuple[int, ...] = (4,)) -> LossKind:
    """The kind of a loss.

    What it does with the scores decides: whether it takes a sigmoid of them, scaled or not, or their logarithm. A loss
    whose calls say nothing is judged by how its value falls with the scores.

    Args:
        loss: A loss of scores and targets, or None.
        shape: The shape of the scores that it gets.
    """
    if isinstance(loss, OF_LOGITS) or loss is F.cross_entropy:
        return LossKind("logits", True)
    if isinstance(loss, nn.BCELoss):
        return LossKind("probabilities", True)
    if loss is None or isinstance(loss, (*SIGNED, nn.NLLLoss)):
        return LossKind(None, True)
    with _kept(loss):
        read = list(readings(loss, shape))
        if any(_is_sigmoid_of_logits(one) for one in read):
            return LossKind("logits", True)
        if _reads_probabilities(read):
            return LossKind("probabilities", True)
        if read:
            return LossKind(None, True)  # a sigmoid of scores that are scaled or shifted, or of differences
        with torch.no_grad():
            if _falls_as_of_logits(loss, shape):
                return LossKind("logits", False)
            return LossKind("probabilities" if _falls_as_of_probabilities(loss, shape) else None, False)


def wants_zero_and_one(loss: Callable[..., Any] | None, shape: tuple[int, ...] = (4,)) -> bool:
    """True if it is seen that targets of -1 and 1 are wrong for a loss: it is, or calls, a cross-entropy of them."""
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss, nn.CrossEntropyLoss)) or wants_log_probabilities(loss):
        return True
    if loss is None or loss is F.cross_entropy or isinstance(loss, SIGNED):
        return loss is F.cross_entropy
    with _kept(loss):
        if not any(one.name in CROSS_ENTROPIES for one in readings(loss, shape)):
            return False
        signed = [one for one in readings(loss, shape, least=-1.0) if one.name in CROSS_ENTROPIES]
        return not all(one.target is not None and bool((one.target >= 0).all()) for one in signed) or not signed


def wants_log_probabilities(loss: Callable[..., Any] | None) -> bool:
    """True if a loss reads the logarithms of probabilities."""
    return isinstance(loss, nn.NLLLoss) or loss is F.nll_loss


def name_of(loss: Callable[..., Any] | None) -> str:
    """The name that its owner would use."""
    return getattr(loss, "__name__", type(loss).__name__)


def _kept(loss: Callable[..., Any]) -> Any:
    """A loss may count its calls in a buffer: a context that restores it."""
    holds_state = isinstance(loss, nn.Module) and not isinstance(loss, torch.jit.ScriptModule)
    return sandbox(cast(nn.Module, loss)) if holds_state else nullcontext()


def _is_sigmoid_of_logits(one: Reading) -> bool:
    """True if a sigmoid of single scores stays narrow for scores in [0, 1], as a second sigmoid does."""
    if one.name not in SIGMOIDS or one.slopes is None:
        return False
    if one.columns == 2:  # probabilities that add up to 1: the two differ by 1 at most
        passed = one.slopes.sigmoid() - (-one.slopes).sigmoid()
    else:
        passed = (one.slopes + one.offsets).sigmoid() - one.offsets.sigmoid()
    return bool((one.slopes != 0).all() and (passed.abs() < NARROW).all())


def _reads_probabilities(read: list[Reading]) -> bool:
    """True if a cross-entropy of probabilities, or logarithms of p where same and 1 - p where different, are taken."""
    same = different = False
    for one in read:
        if one.slopes is None or one.name not in LOGARITHMS:
            continue
        is_p = ((one.slopes - 1).abs() < EXACT) & (one.offsets.abs() < EXACT)
        is_rest = ((one.slopes + 1).abs() < EXACT) & ((one.offsets - 1).abs() < EXACT)
        if one.name == "binary_cross_entropy" and bool(is_p.all()):
            return True
        same |= bool(is_p[one.same].all()) and bool(one.same.any())
        different |= bool(is_rest[~one.same].all()) and bool((~one.same).any())
    return same and different


def _falls_as_of_logits(loss: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    """True if a loss of right logits ±s falls for all s, ever more slowly, to 0, as a cross-entropy does.

    A hinge reaches its floor; a squared error rises again; a product of scores and targets falls without end.
    """
    costs = [_cost(loss, shape, s, -s) for s in (-6.0, -3.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 20.0)]
    falling = all(a > b for a, b in itertools.pairwise(costs[:-1]))
    flat = costs[6] - costs[7] < (costs[3] - costs[4]) / 2 and -EXACT < costs[8] < EXACT
    return falling and flat and costs[5] < costs[3] / 2


def _falls_as_of_probabilities(loss: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    """True if a loss of right probabilities falls up to 1, and is undefined or the same beyond."""
    costs = [_cost(loss, shape, p, 1 - p) for p in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    falling = all(a > b for a, b in itertools.pairwise(costs))
    beyond = _cost(loss, shape, 1.5, -0.5)
    return falling and costs[5] < costs[2] / 2 and (not math.isfinite(beyond) or abs(beyond - costs[5]) < costs[5] / 2)


def _cost(loss: Callable[..., Any], shape: tuple[int, ...], positive: float, negative: float) -> float:
    """The mean loss where same and different pairs alternate and have these scores; NaN if it takes no such scores."""
    targets = (torch.arange(math.prod(shape)) % 2 == 0).float().reshape(shape)
    try:
        return float(torch.as_tensor(loss(targets * (positive - negative) + negative, targets)).float().mean())
    except Exception:  # a loss of another kind
        return math.nan
