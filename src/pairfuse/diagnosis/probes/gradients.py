"""Probes of the gradients: `nan-gradient`, `dead-branch`."""

from typing import Any

import torch
from torch import Tensor

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.embeddings import embed
from pairfuse.diagnosis.probe import OK, Result, Skip
from pairfuse.diagnosis.probes.xnor_overfit import TRAINED, rightly_answered
from pairfuse.items.batches import combine, tensors

SMALLER = (0.3, 0.1, 1e-2, 1e-3, 1e-4)  # times the weights
FLAT = (
    "Train on logits with nn.BCEWithLogitsLoss, whose gradient does not vanish for wrong answers; make the head's "
    "weights smaller, or the range of a clamp or a quantization wider."
)
DETACHED = "Remove .detach(), .data, torch.no_grad() or a comparison such as p > 0.5, unless a stop-gradient is meant."


def nan_gradient(context: Context) -> Result:
    """Symptom: training goes well until a pair of two identical inputs comes; then every weight is NaN.

    Computation: the gradients of the sum of the logits, in the parameters, once for the given pairs, and once for
    pairs of an item with itself where the sides take the same kind. Threshold: a single NaN or infinity. False
    alarms: none; a model that never meets two identical inputs is not hurt.
    """
    kinds = {"the given pairs": context.sample.some_pairs()}
    if context.sample.same_kind:
        kinds["pairs of an item with itself"] = (context.sample.left, context.sample.left)
    tried = 0
    for kind, (x1, x2) in kinds.items():
        with context.runner.sandbox():
            named = context.runner.parameters()
            logits = context.runner.score(x1, x2, gradients=True).logits
            if not named or not logits.requires_grad:
                continue
            tried += 1
            gradients = torch.autograd.grad(logits.nan_to_num().sum(), list(named.values()), allow_unused=True)
        bad = [n for n, g in zip(named, gradients, strict=True) if g is not None and not g.isfinite().all()]
        if bad:
            return Result(
                "fail",
                f"For {kind} the gradient is NaN or infinite in {', '.join(bad[:3])}{' and more' if bad[3:] else ''}.",
                {"parameters with such gradients": len(bad)},
                "A square root, a norm or a logarithm is taken at 0: add a small number under the root, or use "
                "torch.linalg.vector_norm or nn.PairwiseDistance, whose gradients there are finite.",
            )
    if not tried:
        raise Skip("no gradient reaches any parameter")
    return OK


def dead_branch(context: Context) -> Result:
    """Symptom: one encoder does not learn, or both learn from one side only, or nothing learns at all.

    Computation: with gradients wanted everywhere, what arrives at either side: at its inputs, or at its embedding
    where they are not floating-point numbers. Threshold: none; gradients of exactly 0 for every pair. `fail` where no
    weight gets a gradient either, at smaller weights too; `warn` if some do there, so that these scores are saturated,
    and a note if most of them are right; also a note where nothing arrives on both sides, but in the head: an encoder
    kept as it is on purpose. False alarms: a stop-gradient on one side that is meant, as in SimSiam or BYOL.
    """
    weights = list(context.runner.parameters().values())
    scores, sides = _scores_and_sides(context)
    ends = [tensor for side in sides for tensor in side if tensor.requires_grad]
    if not scores.requires_grad:
        return Result("fail", "No gradient leaves the model: its output is detached.", {}, DETACHED)
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
        if max(sizes[: len(weights)], default=0.0) == 0:
            return _without_gradients(context, evidence)
        text = "No gradient reaches the encoder from either side: only what comes after it learns."
        return Result("note", text, evidence, "Right for an encoder that is kept as it is.")
    advice = (
        f"{DETACHED} If there is none, look for what multiplies that side by zero: a dead ReLU, an embedding of zeros."
    )
    return Result("warn", f"No gradient reaches {dead[0]}: its encoder learns nothing there.", evidence, advice)


def _without_gradients(context: Context, evidence: dict[str, Any]) -> Result:
    """The verdict where no weight gets a gradient: it may be so at the current weights only, where scores are flat."""
    for factor in SMALLER:
        with context.runner.sandbox():
            weights = list(context.runner.parameters().values())
            for weight in weights:
                weight.data *= factor
            scores = context.runner.score(*context.sample.mixed_pairs(), gradients=True).scores.nan_to_num()
            found = torch.autograd.grad(scores.square().sum(), weights, allow_unused=True)
        if any(gradient is not None and gradient.nan_to_num().abs().max() > 0 for gradient in found):
            right = rightly_answered(context) >= TRAINED
            text = "No weight gets a gradient from these pairs, at smaller weights some do: the scores are saturated"
            return Result("note" if right else "warn", f"{text}{', and right' if right else ''}.", evidence, FLAT)
    return Result("fail", "No weight of the model gets a gradient.", evidence, DETACHED)


def _scores_and_sides(context: Context) -> tuple[Tensor, list[list[Tensor]]]:
    """The scores of some pairs, and for either side the tensors at which a gradient should arrive."""
    pairs = context.sample.mixed_pairs()
    inputs = [combine(_wanting, x) for x in pairs]
    sides = [[t for t in tensors("x", x) if t.requires_grad] for x in inputs]
    if all(sides):
        return context.runner.score(*inputs, gradients=True).scores, sides
    found = embed(context, *pairs, gradients=True)
    return found.output.scores, [[found.u], [found.v]]


def _wanting(x: Tensor) -> Tensor:
    return x.requires_grad_() if x.is_floating_point() else x
