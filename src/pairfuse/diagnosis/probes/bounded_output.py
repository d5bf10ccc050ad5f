"""Probe `bounded-output`."""

import math

from pairfuse.diagnosis.losses import wants_logits
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject

BOUNDED = ("tanh", "softsign", "cosine_similarity")
SLACK = 1e-3


def bounded_output(subject: Subject) -> Result:
    """Symptom: the loss stops at about 0.31, and no probability leaves [0.27, 0.73].

    Computation: whether the model ends in a tanh or a cosine, or leaves [-1, 1] with no weights, however large they are
    drawn; σ(±1) is 0.27 and 0.73. Threshold: none; `warn` where `loss` takes logits, `note` where the loss is not
    known. False alarms: none with the loss known.
    """
    link = subject.given.link
    seen = link is not None and link.name in BOUNDED
    low, high = subject.range
    never_beyond = subject.module is not None and low >= -1 - SLACK and high <= 1 + SLACK
    if subject.probabilities or not (seen or never_beyond):
        return OK
    takes_logits = None if subject.loss is None else wants_logits(subject.loss)
    if takes_logits is False:
        return OK
    return Result(
        "warn" if takes_logits else "note",
        "No score leaves [-1, 1], as of a cosine or a tanh: taken as a logit it keeps the probability within 0.27 "
        "and 0.73.",
        {"least score": low, "greatest score": high, "least cross-entropy": math.log1p(math.exp(-1))},
        "Multiply it by a learned temperature and add a learned bias before the loss: nn.Linear(1, 1).",
        seen,
    )
