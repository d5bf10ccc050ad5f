"""Probe `asymmetric`."""

import torch

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.items.batches import count_items

SWING = 0.2  # in probability


def asymmetric(subject: Subject) -> Result:
    """Symptom: swapping the two inputs changes the answer, though "same" has no order.

    Computation: the probabilities of the given pairs beside those of the swapped ones. Threshold: `warn` at a root mean
    square of 0.2; `note` above rounding. False alarms: a question that has an order, such as "does the first contain
    the second?"
    """
    if not subject.alike:
        raise Skip("the two sides take different kinds of items")
    if subject.allow_additive:
        raise Skip("a ranking has an order")
    x1, x2 = subject.some_pairs()
    there, back = subject.given.logits.double(), subject.score(x2, x1).logits.double()
    valid = there.isfinite() & back.isfinite()
    if not valid.any():
        raise Skip("no finite scores")
    there, back = there[valid], back[valid]
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
    if gap > 64 * torch.finfo(subject.precision).eps * float(there.abs().max()):
        return Result(
            "note", "The model is not symmetric: swapping x1 and x2 changes the scores a little.", evidence, advice
        )
    return OK
