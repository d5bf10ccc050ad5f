"""Reading what a model returns: scores, logits, and the function with which it ends."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairfuse.diagnosis.function_recorder import LOGIT_ACTIVATIONS, MONOTONE, Call, FunctionRecorder


class Output(NamedTuple):
    """The output of a model for N pairs, and how it is read.

    Attributes:
        logits: `(N,)`; NaN where a probability is too near 0 or 1 to have a logit.
        inner: `(N,)`: the input of the last function, if that is one that never decreases; otherwise the logits.
        scores: `(N,)`: the values; of two outputs the second less the first, or, where these are
            probabilities, the second.
        values: The returned tensor as `(N,)` or `(N, 2)`.
        returned: The returned tensor in its own shape.
        final_activation: The call of a sigmoid or the like with which the model ends, if it was seen.
        precision: The coarsest floating-point type that was seen on the way.
    """

    logits: Tensor
    inner: Tensor
    scores: Tensor
    values: Tensor
    returned: Tensor
    final_activation: Call | None
    precision: torch.dtype


def read_output(output: Any, count: int, recorder: FunctionRecorder, probabilities: bool) -> Output:
    """Read what a model returned for `count` pairs; raise if it is not one or two scores for each."""
    values = _check_output(output, count)
    activation = recorder.final_activation(output)
    if activation is not None and not _acts_on_each(activation, values):
        activation = None
    scores = to_scores(values, probabilities)
    if activation is not None and activation.name in LOGIT_ACTIVATIONS:
        logits = _difference(_columns(activation.first, count))  # its input is the logit itself
    elif probabilities:
        logits = torch.where((scores > 1e-6) & (scores < 1 - 1e-4), scores, torch.nan).logit()
    else:
        logits = scores
    inner = logits
    if activation is not None and activation.name in MONOTONE:
        inner = _difference(_columns(activation.first, count))
    return Output(logits, inner, scores, values, output, activation, coarsest(recorder.precision, values.dtype))


def to_scores(values: Tensor, probabilities: bool) -> Tensor:
    """One score for each pair: of two outputs the second less the first, or, of probabilities, the second."""
    return values[:, 1] if probabilities and values.ndim == 2 else _difference(values)


def coarsest(*kinds: torch.dtype) -> torch.dtype:
    """The floating-point type with the largest rounding errors."""
    return max(kinds, key=lambda kind: torch.finfo(kind).eps)


def _check_output(output: Any, count: int) -> Tensor:
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


def _difference(values: Tensor) -> Tensor:
    return values[:, 1] - values[:, 0] if values.ndim == 2 else values


def _acts_on_each(activation: Call, values: Tensor) -> bool:
    """False for what does not act on each score by itself: a softmax over the batch, or of a single logit."""
    if activation.name in MONOTONE and activation.first.numel() != values.numel():
        return False
    return activation.name != "softmax" or sums_to_one(values)


def sums_to_one(values: Tensor) -> bool:
    """True if each of N pairs has two values whose sum is 1."""
    return values.ndim == 2 and bool(torch.allclose(values.sum(1), torch.ones_like(values[:, 0]), atol=1e-2))
