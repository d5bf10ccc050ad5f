"""The kind of a loss: which scores and targets it expects, from its class or from its values."""

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import nn

from pairfuse.diagnosis.sandbox import sandbox

F = nn.functional
SIGNED = (nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.CosineEmbeddingLoss, nn.MarginRankingLoss)  # targets -1 and 1
OF_LOGITS = (nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.SoftMarginLoss)


def name_of(loss: Callable[..., Any] | None) -> str:
    """The name that its owner would use."""
    return getattr(loss, "__name__", type(loss).__name__)


def wants_logits(loss: Callable[..., Any] | None, shape: tuple[int, ...] = (4,)) -> bool | None:
    """True for a loss that applies a sigmoid or softmax itself, False for one of probabilities, None if unknown.

    Args:
        loss: A loss of scores and targets, or None.
        shape: The shape of the scores that it gets.
    """
    if isinstance(loss, OF_LOGITS) or loss is F.cross_entropy:
        return True
    if isinstance(loss, nn.BCELoss):
        return False
    if loss is None or isinstance(loss, (*SIGNED, nn.NLLLoss)):
        return None
    holds_state = isinstance(loss, nn.Module) and not isinstance(loss, torch.jit.ScriptModule)
    with sandbox(cast(nn.Module, loss)) if holds_state else nullcontext(), torch.no_grad():
        if _falls_as_of_logits(loss, shape):
            return True
        return False if _falls_as_of_probabilities(loss, shape) else None


def wants_zero_and_one(loss: Callable[..., Any] | None, shape: tuple[int, ...] = (4,)) -> bool:
    """True if the targets of a loss are probabilities or classes: 0 and 1, not -1 and 1, and no other number."""
    if isinstance(loss, SIGNED):
        return False
    return wants_log_probabilities(loss) or wants_logits(loss, shape) is not None


def wants_log_probabilities(loss: Callable[..., Any] | None) -> bool:
    """True if a loss reads the logarithms of probabilities."""
    return isinstance(loss, nn.NLLLoss) or loss is F.nll_loss


def _falls_as_of_logits(loss: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    """True if a loss of right logits ±s falls for all s, as a weighted or focal cross-entropy does.

    A hinge reaches its floor; a squared error rises again.
    """
    costs = [_cost(loss, shape, s, -s) for s in (-6.0, -3.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)]
    falling = all(a > b for a, b in itertools.pairwise(costs))
    return falling and costs[5] < costs[3] / 2


def _falls_as_of_probabilities(loss: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    """True if a loss of right probabilities falls up to 1, and is undefined or not larger beyond."""
    costs = [_cost(loss, shape, p, 1 - p) for p in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    falling = all(a > b for a, b in itertools.pairwise(costs))
    return falling and costs[5] < costs[2] / 2 and not _cost(loss, shape, 1.5, -0.5) > costs[5]


def _cost(loss: Callable[..., Any], shape: tuple[int, ...], positive: float, negative: float) -> float:
    """The mean loss where same and different pairs alternate and have these scores; NaN if it takes no such scores."""
    targets = (torch.arange(math.prod(shape)) % 2 == 0).float().reshape(shape)
    try:
        return float(torch.as_tensor(loss(targets * (positive - negative) + negative, targets)).float().mean())
    except Exception:  # a loss of another kind
        return math.nan
