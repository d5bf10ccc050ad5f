"""Probes of whether the scores fit the loss: `double-sigmoid`, `bounded-output`, `broadcast`."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.function_recorder import BOUNDED, PROBABILITIES, FunctionRecorder, same_numbers
from pairfuse.diagnosis.loss_kind import name_of, wants_log_probabilities
from pairfuse.diagnosis.probe import OK, Result, Skip, Undecided
from pairfuse.diagnosis.report import Verdict

ONE_SIGMOID = (
    "Return the plain logit from the model and train with nn.BCEWithLogitsLoss; apply one sigmoid where you need a "
    "probability."
)
SLACK = 1e-3
LOW, HIGH = 1 / (1 + math.e), 1 / (1 + math.exp(-1))  # 0.27 and 0.73


def double_sigmoid(context: Context) -> Result:
    """Symptom: every probability is between 0.5 and 0.73, and the loss stops falling early, at 0.31 or more.

    Computation: whether the last sigmoid (or softmax) of the model reads the result of another, seen as the calls are
    made; whether probabilities go into a loss that applies its own, or logits into one that does not, if `loss` is
    given. A loss is known by its class, or by its calls: a sigmoid of single scores, or a cross-entropy or logarithm of
    them, weighted, focal and smoothed ones too. A loss whose calls say nothing is judged by how its value falls with
    the scores. Threshold: none; `warn` at most for a loss that is judged by its values. False alarms: none known where
    calls are seen. A sigmoid inside a gate does not count, nor one of scores that are multiplied so far that it passes
    half of [0, 1] or more.
    """
    recorder = FunctionRecorder()
    output = context.runner.score(*context.sample.some_pairs(), recorder=recorder)
    low, high = float(output.values.min()), float(output.values.max())
    evidence = {"least output": low, "greatest output": high}
    last = output.final_activation
    seen = last is not None and last.name in PROBABILITIES
    inner = [call for call in recorder.kept if call.name in PROBABILITIES]
    if seen and last is not None and any(same_numbers(call.result, last.first) for call in inner):
        text = "The model applies a sigmoid to what is a probability already."
        return Result("fail", text, evidence, ONE_SIGMOID, "verified")
    if context.loss is None:
        raise Skip("whether the loss fits what the model returns: no loss was given")
    name = name_of(context.loss)
    if context.takes_logits and context.runner.probabilities:
        text = f"The model returns probabilities, and {name} applies a sigmoid or softmax of its own to them."
        sure = seen and context.loss_kind.seen
        return Result("fail" if sure else "warn", text, evidence, ONE_SIGMOID, "verified" if sure else "observed")
    if context.takes_logits is False and (low < 0 or high > 1):
        text = f"The model returns scores beyond [0, 1], and {name} expects probabilities."
        verdict: Verdict = "fail" if context.loss_kind.seen else "warn"
        return Result(verdict, text, evidence, "Train with nn.BCEWithLogitsLoss.")
    if wants_log_probabilities(context.loss) and high > 0:
        text = f"The model returns scores above 0, and {name} expects logarithms of probabilities."
        return Result("fail", text, evidence, "Train with nn.CrossEntropyLoss, which takes logits.")
    return OK


def bounded_output(context: Context) -> Result:
    """Symptom: the loss stops at about 0.31 or 0.69, and no probability leaves [0.27, 0.73], or one side of 0.5.

    Computation: whether the model ends in a tanh or a cosine, or leaves [-1, 1] with no weights, however large they
    are drawn; σ(±1) is 0.27 and 0.73. The same of a logit that is never below, or never above, 0: then no probability
    is ever below, or above, 0.5. Threshold: none; `warn` where `loss` takes logits or probabilities, `note` where the
    loss is not known. False alarms: a model whose scores leave their bounds for other weights than those drawn.
    """
    last = context.given.final_activation
    seen = last is not None and last.name in BOUNDED and not context.runner.probabilities
    low, high = context.range
    middle, bounds = (0.5, (LOW, HIGH)) if context.runner.probabilities else (0.0, (-1.0, 1.0))
    within = low >= bounds[0] - SLACK and high <= bounds[1] + SLACK
    one_side = low >= middle - SLACK or high <= middle + SLACK
    if not (seen or (context.redraws and (within or one_side))):
        return OK
    if context.loss is not None and context.takes_logits is None:
        return OK  # a loss of another kind, for which such scores may be right
    evidence = {"least score over redrawn weights": low, "greatest score over redrawn weights": high}
    if seen or within:
        text = "No score leaves [-1, 1], as of a cosine or a tanh: as a logit it keeps the probability in [0.27, 0.73]."
        evidence["least cross-entropy"] = math.log1p(math.exp(-1))
    else:
        side, answer = ("below", "different") if low >= middle - SLACK else ("above", "same")
        text = f"No score was seen {side} {middle:g}: no pair can be called {answer}."
    return Result(
        "note" if context.loss is None else "warn",
        text,
        evidence,
        "Multiply it by a learned temperature and add a learned bias before the loss: nn.Linear(1, 1).",
        "verified" if seen else "observed",
    )


def broadcast(context: Context) -> Result:
    """Symptom: every answer tends to the mean of the targets, 0.5, though nothing is wrong with the model.

    Computation: the loss of random scores and the targets in the shapes in which they come, compared with that of both
    as `(B,)`. Scores `(B, 1)` against targets `(B,)` become a table `(B, B)` in a loss that broadcasts, such as
    nn.MSELoss: every score is pulled to every target. A loss that does not broadcast, such as nn.BCEWithLogitsLoss,
    raises an error. Threshold: rounding, or an error; a warning, since the training loop is not seen. False alarms: a
    training loop that reshapes one of them first.
    """
    y, returned = context.sample.given_y, context.given.returned
    if y is None:
        raise Skip("no targets were given")
    targets = y.detach()[: len(returned)].to(returned)
    # Any scores show it; those of the model might hide it, as where an absolute error is linear.
    scores = 3 * torch.randn(returned.shape, generator=torch.Generator().manual_seed(0)).to(returned)
    if scores.numel() != targets.numel() or scores.shape == targets.shape:
        return OK
    name, shapes = name_of(context.loss), f"the model returns {tuple(returned.shape)}, and y is {tuple(targets.shape)}"
    reshaped = "model(x1, x2).squeeze(1), or y[:, None]" if scores.ndim == 2 else "y.squeeze(1)"
    advice = f"Give both one shape where you call the loss: {reshaped}."
    try:
        one_by_one = _cost(context.loss, scores.flatten(), targets.flatten())
    except Exception as error:
        raise Undecided(f"{name} raises for scores and targets of one shape too: {_first_line(error)}") from error
    try:
        as_they_come = _cost(context.loss, scores, targets)
    except Exception as error:
        text = f"{name} raises an error for these shapes: {shapes}."
        return Result("warn", text, {type(error).__name__: _first_line(error)}, advice)
    if torch.allclose(as_they_come, one_by_one, rtol=1e-4):
        return OK
    return Result(
        "warn",
        f"In these shapes {name} makes a table of all scores with all targets: {shapes}.",
        {"loss of random scores": float(as_they_come), "pair by pair": float(one_by_one)},
        advice,
    )


def _first_line(error: Exception) -> str:
    return "".join(str(error).splitlines()[:1])


def _cost(loss: Any, scores: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the very warning that is easily overlooked
        return torch.as_tensor(loss(scores, targets)).mean()
