"""Probes of the scores alone: `not-finite`, `constant-output`, `ignored-input`, `saturated`."""

import math
from typing import Any

import torch

from pairfuse.diagnosis.anova import rms, rounding, shares
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.probe import OK, Result, Skip, Undecided
from pairfuse.diagnosis.sample import all_pairs
from pairfuse.items.batches import tensors

LITTLE = 1e-4
LIMIT = 15.0  # a probability within 3e-7 of 0 or 1
SHARE = 0.25
RESOLVED = 10  # times rounding


def not_finite(context: Context) -> Result:
    """Symptom: the loss is NaN from the first step on.

    Computation: what the model returns for the given pairs in eval mode. Threshold: a single NaN or infinity.
    False alarms: none; but a model may be finite here and not elsewhere.
    """
    values = context.given.values
    bad = int((~values.isfinite()).sum())
    if not bad:
        return OK
    given = {"x1": tensors("x1", context.sample.x1), "x2": tensors("x2", context.sample.x2)}
    sources = [name for name, parts in given.items() if not all(bool(part.isfinite().all()) for part in parts)]
    if sources:
        text = f"There is NaN or infinity in {' and '.join(sources)}, and so in {bad} of {values.numel()} scores."
        return Result("fail", text, {"not finite": bad}, "Look at how the items are read and normalized.")
    broken = [name for name, weight in context.runner.parameters().items() if not weight.isfinite().all()]
    return Result(
        "fail",
        f"{bad} of {values.numel()} scores are NaN or infinite."
        + (f" So are weights of the model, such as {broken[0]}." if broken else ""),
        {"not finite": bad, "scores": values.numel(), "weights not finite": len(broken)},
        "Start from fresh weights, and look for a division by zero, a square root or a logarithm of 0 or less, or a "
        "learning rate that is too high.",
    )


def constant_output(context: Context) -> Result:
    """Symptom: the same answer for every pair, whatever is shown.

    Computation: the spread of the scores over all pairs of the items, in eval mode; where there is none, whether a
    step of training would make one: the gradient of some scores less others. Threshold: what rounding leaves, 8 units
    of the largest; `fail` where that gradient is 0 too, `note` where it is not. False alarms: none known; a last
    layer that starts at zero is a note.
    """
    grid = context.grid
    if not grid.isfinite().all():
        grid = context.runner.score_all(context.sample.left, context.sample.right, of="scores")
    if not grid.isfinite().all():
        raise Undecided("some scores are not finite")
    spread, size = rms(grid - grid.mean()), float(grid.abs().max())
    magnitude = context.grid_magnitude if grid is context.grid else size
    if spread > rounding(magnitude, context.held_precision):
        return OK
    evidence: dict[str, Any] = {"pairs": grid.numel(), "score": float(grid.mean()), "spread (rms)": spread}
    moves = _a_step_moves_it(context) if context.runner.has_module else None
    if not moves and spread > rounding(size, context.held_precision):  # they differ, but maybe by rounding only
        if moves is None:
            raise Undecided("the scores differ by no more than rounding: pass module= to examine other weights")
        return OK
    if moves:
        text = "Every pair gets the same score so far, up to rounding; the first step of training changes that."
        return Result("note", text, evidence, "Right for a last layer that starts at zero on purpose.")
    return Result(
        "fail",
        f"All {grid.numel()} pairs get the same score" + (", and no gradient changes that." if moves is False else "."),
        evidence,
        "Look for the first layer whose output is the same for every item: often a ReLU whose inputs are all negative "
        "(start again with a lower learning rate, or take LeakyReLU), or weights that are all zero.",
    )


def _a_step_moves_it(context: Context) -> bool:
    """True if the scores of some pairs, less those of others, have a gradient."""
    parameters = list(context.runner.parameters().values())
    scores = context.runner.score(*all_pairs(context.sample.left, context.sample.right), gradients=True).scores
    if not scores.requires_grad or not parameters:
        return False
    signs = torch.randn(len(scores), generator=torch.Generator().manual_seed(0)).to(scores)
    gradients = torch.autograd.grad((signs - signs.mean()) @ scores, parameters, allow_unused=True)
    sizes = [float(gradient.abs().max()) for gradient in gradients if gradient is not None]
    least: float = 1e-4 * len(scores) * math.sqrt(torch.finfo(context.held_precision).eps)
    return max(sizes, default=0.0) > least


def ignored_input(context: Context) -> Result:
    """Symptom: accuracy is that of a model that sees one of the two things.

    Computation: how much the logits of all pairs change when only `x1`, or only `x2`, is exchanged. Threshold: `fail`
    at what rounding leaves, `warn` where the input explains, alone and together with the other, under 1e-4 of the
    variance.
    False alarms: a side that is scaled far smaller than the other may still be learned from.
    """
    grid = context.grid
    exact, parts = rounding(float(grid.abs().max()), context.held_precision), shares(grid)
    noise = rounding(context.grid_magnitude, context.held_precision)
    sides = {
        "x1": (rms(grid - grid.mean(0, keepdim=True)), parts.left + parts.interaction),
        "x2": (rms(grid - grid.mean(1, keepdim=True)), parts.right + parts.interaction),
    }
    for name, (change, share) in sides.items():
        other = "x2" if name == "x1" else "x1"
        evidence = {f"change with {name} (rms)": change, f"change with {other} (rms)": sides[other][0]}
        advice = (
            f"Follow {name} through forward, and look for a name used twice, a slice that leaves it out, an "
            "encoder whose output is constant (a dead ReLU), or weights of zero."
        )
        if change <= exact:
            return Result("fail", f"Exchanging {name} changes no logit: the model does not read it.", evidence, advice)
        if change <= noise and rms(grid - grid.mean()) <= RESOLVED * noise:
            raise Skip("the logits differ by little more than rounding: see additive")
        if change <= noise:
            text = f"Exchanging {name} changes the logits by no more than rounding."
            return Result("warn", text, {**evidence, "rounding": noise}, advice)
        if share < LITTLE:
            evidence = {**evidence, f"share of the variance due to {name}": share}
            return Result("warn", f"Exchanging {name} changes the logits very little.", evidence, advice)
    return OK


def saturated(context: Context) -> Result:
    """Symptom: probabilities of exactly 0 or 1 from the start; with a sigmoid and a squared error the loss never moves.

    Computation: the share of the given pairs whose logit is beyond ±15, where the sigmoid's slope is under 3e-7.
    Threshold: a quarter of the pairs, unless the targets show that these are right. False alarms: a well trained model,
    where no targets are given.
    """
    values = context.given.logits.double()
    if context.runner.probabilities and context.given.final_activation is None:
        values = context.given.scores.double().clamp(1e-12, 1 - 1e-12).logit()
    far = values.abs() > LIMIT
    evidence = {"beyond ±15": f"{int(far.sum())} of {len(far)}", "largest logit": float(values.abs().max())}
    if far.double().mean() < SHARE:
        return OK
    if context.sample.same is not None:
        wrong = ((values > 0) != context.sample.same[: len(values)].to(values.device)) & far
        evidence["of these wrong"] = int(wrong.sum())
        if wrong.sum() <= 0.02 * far.sum():
            return Result("note", "Many logits are beyond ±15, and right: little is left to learn here.", evidence)
    steep = " The sigmoid is flat there." if context.runner.probabilities else ""
    return Result(
        "warn",
        f"Many logits are beyond ±15, so that the probabilities are 0 or 1 to six digits.{steep}",
        evidence,
        "Scale the inputs to about unit variance, normalize the embeddings, or make the head's first weights smaller. "
        "Train on logits with nn.BCEWithLogitsLoss, whose gradient does not vanish for wrong answers.",
    )
