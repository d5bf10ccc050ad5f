"""Probe `broadcast`."""

import warnings
from typing import Any

import torch
from torch import Tensor

from pairfuse.diagnosis.loss_kind import name_of
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def broadcast(subject: Subject) -> Result:
    """Symptom: every answer tends to the mean of the targets, 0.5, though nothing is wrong with the model.

    Computation: the loss of random scores and the targets in the shapes in which they come, beside that of both as
    `(B,)`.
    Scores `(B, 1)` against targets `(B,)` become a table `(B, B)` in a loss that broadcasts, such as nn.MSELoss:
    every score is pulled to every target. Threshold: rounding; a warning, since the training loop is not
    seen. False alarms: a training loop that reshapes one of
    them first.
    """
    y, loss = subject.given_y, subject.loss
    if y is None or loss is None:
        raise Skip("it needs y and loss")
    returned = subject.given.returned
    targets = y.detach()[: len(returned)].to(returned)
    # Any scores show it; those of the model might hide it, as where an absolute error is linear.
    scores = 3 * torch.randn(returned.shape, generator=torch.Generator().manual_seed(0)).to(returned)
    if scores.numel() != targets.numel() or scores.shape == targets.shape:
        return OK
    as_they_come, one_by_one = _cost(loss, scores, targets), _cost(loss, scores.flatten(), targets.flatten())
    if as_they_come is None or one_by_one is None or torch.allclose(as_they_come, one_by_one, rtol=1e-4):
        return OK
    return Result(
        "warn",
        f"In these shapes {name_of(loss)} makes a table of all scores with all targets: the model returns "
        f"{tuple(returned.shape)}, and y is {tuple(targets.shape)}.",
        {"loss of random scores": float(as_they_come), "pair by pair": float(one_by_one)},
        "Give both one shape where you call the loss: model(x1, x2).squeeze(1), or y[:, None].",
    )


def _cost(loss: Any, scores: Tensor, targets: Tensor) -> Tensor | None:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the very warning that is easily overlooked
            return torch.as_tensor(loss(scores, targets)).mean()
    except Exception:  # it refuses them, and so says it itself
        return None
