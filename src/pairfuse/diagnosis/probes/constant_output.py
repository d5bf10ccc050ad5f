"""Probe `constant-output`."""

import math
from typing import Any

import torch

from pairfuse.diagnosis.anova import rms, rounding
from pairfuse.diagnosis.module_search import named_weights
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject


def constant_output(subject: Subject) -> Result:
    """Symptom: the same answer for every pair, whatever is shown.

    Computation: the spread of the scores over all pairs of the items, in eval mode; where there is none, whether a
    step of training would make one: the gradient of some scores less others. Threshold: what rounding leaves, 8 units
    of the largest; `fail` where that gradient is 0 too, `note` where it is not. False alarms: none known; a last
    layer that starts at zero is a note.
    """
    grid = subject.grid
    if not grid.isfinite().all():
        grid = subject.score_all(subject.left, subject.right, of="scores")
    if not grid.isfinite().all():
        raise Skip("some scores are not finite")
    spread = rms(grid - grid.mean())
    if spread > rounding(grid, subject.precision):
        return OK
    evidence: dict[str, Any] = {"pairs": grid.numel(), "score": float(grid.mean()), "spread (rms)": spread}
    moves = None if subject.module is None else _a_step_moves_it(subject)
    if moves:
        text = "Every pair gets the same score as yet; the first step of training ends that."
        return Result("note", text, evidence, "Right for a last layer that starts at zero on purpose.", True)
    return Result(
        "fail",
        f"All {grid.numel()} pairs get the same score" + (", and no gradient changes that." if moves is False else "."),
        evidence,
        "Look for the first layer whose output is the same for every item: often a ReLU whose inputs are all negative "
        "(start anew with a lower learning rate, or take LeakyReLU), or weights that are all zero.",
        moves is False,
    )


def _a_step_moves_it(subject: Subject) -> bool:
    """Whether the scores of some pairs, less those of others, have a gradient."""
    parameters = [p.requires_grad_() for p in named_weights(subject.needs_module()).values() if p.is_floating_point()]
    n, m = subject.rows, subject.columns
    rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    x1, x2 = take(subject.left, rows), take(subject.right, columns)
    scores = subject.score(x1, x2, gradients=True).scores
    if not scores.requires_grad or not parameters:
        return False
    signs = torch.randn(len(scores), generator=torch.Generator().manual_seed(0)).to(scores)
    gradients = torch.autograd.grad((signs - signs.mean()) @ scores, parameters, allow_unused=True)
    sizes = [float(gradient.abs().max()) for gradient in gradients if gradient is not None]
    least: float = 1e-4 * len(scores) * math.sqrt(torch.finfo(subject.precision).eps)
    return max(sizes, default=0.0) > least
