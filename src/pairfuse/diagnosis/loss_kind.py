"""What a loss of the user's expects, by its name or by what it does."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

SIGNED = (nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.CosineEmbeddingLoss, nn.MarginRankingLoss)  # targets -1 and 1


def name_of(loss: Callable[..., Any]) -> str:
    """As its owner would call it."""
    return getattr(loss, "__name__", type(loss).__name__)


def wants_logits(loss: Callable[..., Any] | None) -> bool | None:
    """Whether a loss of scores and targets applies a sigmoid or softmax by itself; None if it is not known."""
    if isinstance(loss, (nn.CrossEntropyLoss, nn.SoftMarginLoss)) or loss is nn.functional.cross_entropy:
        return True
    if loss is None or isinstance(loss, SIGNED):
        return None
    scores, targets = torch.tensor([-3.0, 2.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])
    with_logits = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    without = nn.functional.binary_cross_entropy(scores.sigmoid(), targets, reduction="none")
    if _gives(loss, scores, targets, with_logits):
        return True
    return False if _gives(loss, scores.sigmoid(), targets, without) else None


def wants_log_probabilities(loss: Callable[..., Any] | None) -> bool:
    """Whether a loss reads the logarithms of probabilities."""
    return isinstance(loss, nn.NLLLoss) or loss is nn.functional.nll_loss


def _gives(loss: Callable[..., Any], scores: torch.Tensor, targets: torch.Tensor, due: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            value = torch.as_tensor(loss(scores, targets)).float().cpu()
    except Exception:  # it is a loss of another kind
        return False
    fits = value.shape in (due.shape, ())
    return fits and any(torch.allclose(value, x, rtol=1e-3) for x in (due, due.mean(), due.sum()))
