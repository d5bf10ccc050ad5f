"""What a loss of the user's expects."""

from typing import Any

from torch import nn

LOGIT_LOSSES = ("binary_cross_entropy_with_logits", "cross_entropy", "sigmoid_focal_loss")


def wants_logits(loss: Any) -> bool | None:
    """Whether a loss applies a sigmoid or softmax by itself; None if it is not known."""
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.SoftMarginLoss)):
        return True
    name = getattr(loss, "__name__", "")
    if name in LOGIT_LOSSES:
        return True
    return False if isinstance(loss, nn.BCELoss) or name == "binary_cross_entropy" else None
