"""Probe `dead-branch`."""

import torch

from pairfuse._batches import combine
from pairfuse.diagnosis.embeddings import embed
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject, take


def dead_branch(subject: Subject) -> Result:
    """Symptom: one encoder does not learn, or both learn from one side only.

    Computation: with gradients wanted everywhere, whether the graph leads from each embedding back to the weights and
    inputs, and whether any gradient arrives at it. Threshold: none; gradients of exactly 0 for every pair. Where it
    is so on both sides it is a note: an encoder kept as it is on purpose. False alarms: a stop-gradient on one side
    that is meant, as in SimSiam or BYOL.
    """
    count = min(subject.rows, subject.columns)
    x1, x2 = take(subject.left, range(count)), take(subject.right, torch.arange(count).roll(1))
    for parameter in subject.needs_module().parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    if not any(True for _ in subject.needs_module().parameters()):
        raise Skip("the model has no parameters")
    found = embed(subject, combine(_wanting, x1), combine(_wanting, x2), gradients=True)
    cut = {name: not side.requires_grad for name, side in (("x1", found.u), ("x2", found.v))}
    if all(cut.values()):
        text = "No gradient reaches the encoder from either side: only the head learns."
        return Result("note", text, {"detached": "x1 and x2"}, proved=True)
    sides = [side for side in (found.u, found.v) if side.requires_grad]
    logits = found.output.logits.nan_to_num()
    if not logits.requires_grad:
        return Result("warn", "No gradient leaves the head: its output is detached.", {}, "Remove .detach().", True)
    arriving = torch.autograd.grad(logits.square().sum() + logits.sum(), sides, allow_unused=True)
    sizes = iter([0.0 if gradient is None else float(gradient.abs().max()) for gradient in arriving])
    largest = {name: 0.0 if cut[name] else next(sizes) for name in cut}
    evidence = {f"largest gradient at the embedding of {name}": size for name, size in largest.items()}
    dead = [name for name, size in largest.items() if size == 0]
    if not dead:
        return OK
    reason = "its embedding is detached from the graph" if cut[dead[0]] else "the gradient is exactly 0 for every pair"
    advice = (
        "Remove .detach(), .data or torch.no_grad() on that side, unless a stop-gradient is meant."
        if cut[dead[0]]
        else "Look for what multiplies it by zero: a dead ReLU after it, an embedding of zeros on the other side."
    )
    return Result(
        "warn", f"No gradient reaches the encoder from {' and '.join(dead)}: {reason}.", evidence, advice, True
    )


def _wanting(x: torch.Tensor) -> torch.Tensor:
    return x.requires_grad_() if x.is_floating_point() else x
