"""Probe `dead-branch`."""

import torch
from torch import Tensor

from pairfuse.diagnosis.embeddings import embed
from pairfuse.diagnosis.module_search import named_weights
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.items.batches import combine, tensors

DETACHED = "Remove .detach(), .data, torch.no_grad() or a comparison such as p > 0.5, unless a stop-gradient is meant."


def dead_branch(subject: Subject) -> Result:
    """Symptom: one encoder does not learn, or both learn from one side only, or nothing learns at all.

    Computation: with gradients wanted everywhere, what arrives at either side: at its inputs, or at its embedding
    where they are no floating-point numbers. Threshold: none; gradients of exactly 0 for every pair. `fail` where no
    weight gets a gradient either; a note where that is so on both sides, but not in the head: an encoder kept as it
    is on purpose. False alarms: a stop-gradient on one side that is meant, as in SimSiam or BYOL.
    """
    subject.needs_varied_scores()
    weights = [p.requires_grad_() for p in named_weights(subject.needs_module()).values() if p.is_floating_point()]
    if not weights:
        raise Skip("the model has no parameters")
    scores, sides = _scores_and_sides(subject)
    ends = [tensor for side in sides for tensor in side if tensor.requires_grad]
    if not scores.requires_grad:
        return Result("fail", "No gradient leaves the model: what it returns is detached.", {}, DETACHED, True)
    objective = scores.nan_to_num()
    found = torch.autograd.grad(objective.square().sum() + objective.sum(), [*weights, *ends], allow_unused=True)
    sizes = [0.0 if gradient is None else float(gradient.abs().max()) for gradient in found]
    of_ends = dict(zip(map(id, ends), sizes[len(weights) :], strict=True))
    largest = {
        name: max((of_ends.get(id(t), 0.0) for t in side), default=0.0)
        for name, side in zip(("x1", "x2"), sides, strict=True)
    }
    evidence = {f"largest gradient at {name}": size for name, size in largest.items()}
    dead = [name for name, size in largest.items() if size == 0]
    if not dead:
        return OK
    if len(dead) == 2:
        if max(sizes[: len(weights)]) == 0:
            return Result("fail", "No weight of the model gets a gradient.", evidence, DETACHED, True)
        text = "No gradient reaches the encoder from either side: only what comes after it learns."
        return Result("note", text, evidence, "Right for an encoder that is kept as it is.", True)
    advice = (
        f"{DETACHED} If there is none, look for what multiplies that side by zero: a dead ReLU, an embedding of zeros."
    )
    return Result("warn", f"No gradient reaches {dead[0]}: its encoder learns nothing there.", evidence, advice, True)


def _scores_and_sides(subject: Subject) -> tuple[Tensor, list[list[Tensor]]]:
    """The scores of some pairs, and for either side the tensors at which a gradient should arrive."""
    count = min(subject.rows, subject.columns)
    x1, x2 = take(subject.left, range(count)), take(subject.right, torch.arange(count).roll(1))
    inputs = [combine(_wanting, x) for x in (x1, x2)]
    sides = [[t for t in tensors("x", x) if t.requires_grad] for x in inputs]
    if all(sides):
        return subject.score(*inputs, gradients=True).scores, sides
    found = embed(subject, x1, x2, gradients=True)
    return found.output.scores, [[found.u], [found.v]]


def _wanting(x: Tensor) -> Tensor:
    return x.requires_grad_() if x.is_floating_point() else x
