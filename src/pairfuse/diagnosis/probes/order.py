"""Probes of the symmetry that "same" has: `pinned-score`, `untied-branches`, `asymmetric`."""

import torch

from pairfuse.diagnosis.anova import rms, rounding
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.embeddings import embed, owners
from pairfuse.diagnosis.probe import OK, Result, Skip
from pairfuse.diagnosis.sample import take
from pairfuse.items.batches import count_items

UNRELATED = 0.5
ROUNDINGS = 8
SWING = 0.2  # in probability


def pinned_score(context: Context) -> Result:
    """Symptom: different pairs are recognized, same pairs stay at 0.5; a loss that stops at 0.347.

    Computation: the logit of every item with itself, at the current weights and at random ones. Threshold: `warn`
    where it is 0 for all, to rounding, whatever the weights, while other pairs are not; a constant that is learned is
    not a fault. False alarms: a model that is never asked about identical items.
    """
    if context.loss is not None and context.takes_logits is None:
        raise Skip("the loss is of a kind that may want this")
    if not context.redraws:
        raise Skip("no weights are known that could be redrawn")
    size = float(context.grid.nan_to_num().abs().max())
    noise = rounding(context.grid_magnitude, context.held_precision)
    largest = [_largest_of_identical(context)]
    for seed in range(2):
        with context.runner.sandbox(), torch.no_grad():
            context.runner.redraw(1.0, seed)
            largest.append(_largest_of_identical(context))
    if not max(largest) <= noise:
        return OK
    return Result(
        "warn",
        "The logit of an item with itself is 0, whatever the weights: its probability stays 0.5.",
        {"largest logit of an item with itself, over redrawn weights": max(largest), "of any pair, now": size},
        "Give the last layer a bias, above 0 at the start: a distance needs one. If f(u, v) = -f(v, u), take a "
        "symmetric fusion instead.",
        "verified",
    )


def _largest_of_identical(context: Context) -> float:
    logits = context.runner.score(context.sample.left, context.sample.left).logits
    return float(logits.nan_to_num(torch.inf).abs().max())


def untied_branches(context: Context) -> Result:
    """Symptom: a model of two encoders learns slowly, and an item is not even "the same" as itself.

    Computation: the squared distance between the left and the right embedding of one item, divided by that of two
    different items; and which weights make either embedding. Threshold: `note` above rounding, `warn` above 0.5, where
    the two embeddings of an item are unrelated; `ok` where one side has no weights that the other does not have too,
    as where a predictor or a relation follows one encoder on one side only, or if the scores are symmetric. False
    alarms: two kinds of things of equal shape, such as a photograph and a sketch.
    """
    items = context.sample.left
    found = embed(context, items, take(items, torch.arange(context.sample.rows).roll(1)))
    u, v = found.u.detach().double(), found.v.detach().double().roll(-1, 0)  # row i of both is item i
    if u.shape != v.shape:
        raise Skip("the two embeddings differ in width")
    own = float((u - v).square().sum(1).mean())
    others = float((u[:, None] - v).square().sum(2)[~torch.eye(len(u), dtype=torch.bool, device=u.device)].mean())
    if own <= 1e-6 * max(others, float(u.square().sum(1).mean())):
        return OK
    apart = context.grid - context.grid.T
    if apart.isfinite().all() and rms(apart) <= rounding(context.grid_magnitude, context.precision):
        return OK
    left, right = owners(context)
    if left and right and (left <= right or right <= left):
        return OK
    evidence = {"distance of an item from itself": own**0.5, "of two items": others**0.5}
    text = "The two sides have encoders of their own, though they take the same kind of item"
    advice = "Use one encoder for both sides, unless they show different things (a photograph, a sketch)."
    if own > UNRELATED * others:
        text += ": the two embeddings of one item are as different as those of two items."
        return Result("warn", text, evidence, advice)
    return Result("note", f"{text}, with related embeddings.", evidence, advice)


def asymmetric(context: Context) -> Result:
    """Symptom: swapping the two inputs changes the answer, though "same" has no order.

    Computation: the probabilities of the given pairs compared with those of the swapped ones. Threshold: `warn` at a
    root mean square of 0.2; `note` above rounding. False alarms: a question that has an order, such as "does the first
    contain the second?"
    """
    x1, x2 = context.sample.some_pairs()
    there, back = context.given.logits.double(), context.runner.score(x2, x1).logits.double()
    valid = there.isfinite() & back.isfinite()
    if not valid.any():
        raise Skip("no finite scores")
    there, back = there[valid], back[valid]
    size = context.runner.magnitude(x1, x2, context.given.logits, context.precision, pairwise=True)
    swing = float((there.sigmoid() - back.sigmoid()).square().mean().sqrt())
    gap = float((there - back).abs().max())
    evidence = {
        "change of the probability (rms)": swing,
        "largest change of a logit": gap,
        "pairs": count_items("x1", x1),
    }
    advice = (
        "Take a symmetric fusion (product, |u - v|), wrap yours in pairfuse.fusions.Symmetrized, or train on both "
        "orders of every pair."
    )
    if swing > SWING:
        flips = int(((there > 0) != (back > 0)).sum())
        text = "Swapping x1 and x2 changes the answers."
        return Result("warn", text, {**evidence, "answers that flip": flips}, advice)
    if gap > ROUNDINGS * rounding(size, context.precision):
        text = "The model is not symmetric: swapping x1 and x2 changes the scores a little."
        return Result("note", text, evidence, advice)
    return OK
