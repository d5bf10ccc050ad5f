"""Probe `pinned-score`."""

import torch

from pairfuse.diagnosis.loss_kind import wants_logits
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def pinned_score(subject: Subject) -> Result:
    """Symptom: different pairs are told apart, same pairs stay at 0.5; a loss that stops at 0.347.

    Computation: the logit of every item with itself, at the present weights and at random ones. Threshold: `warn`
    where it is 0 for all, to rounding, whatever the weights, while other pairs are not; a constant that is learned is
    no fault. False alarms: a model that is never asked about identical items.
    """
    if not subject.alike:
        raise Skip("the two sides take different kinds of items")
    if subject.allow_additive:
        raise Skip("a ranking says 0 of equal items")
    subject.needs_varied_scores()
    if subject.loss is not None and wants_logits(subject.loss) is None:
        raise Skip("the loss is of a kind that may want just that")
    subject.needs_module()
    size = float(subject.grid.nan_to_num().abs().max())
    largest = [_largest_of_identical(subject)]
    for seed in range(2):
        with subject.lent(), torch.no_grad():
            subject.redraw(1.0, seed)
            largest.append(_largest_of_identical(subject))
    noise = 8 * torch.finfo(torch.float32).eps * size
    if not max(largest) <= noise:
        return OK
    return Result(
        "warn",
        "The logit of an item with itself is 0, whatever the weights: its probability stays 0.5.",
        {"largest logit of an item with itself": max(largest), "of any pair": size},
        "Give the last layer a bias, above 0 at the start: a distance needs one. If f(u, v) = -f(v, u), take a "
        "symmetric fusion instead.",
        proved=True,
    )


def _largest_of_identical(subject: Subject) -> float:
    return float(subject.score(subject.left, subject.left).logits.nan_to_num(torch.inf).abs().max())
