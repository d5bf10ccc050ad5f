"""Probe `bounded-output`."""

import math

from pairfuse.diagnosis.probes.double_sigmoid import wants_logits
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject

BOUNDED = ("tanh", "softsign", "cosine_similarity")


def bounded_output(subject: Subject) -> Result:
    """Symptom: the loss stops at about 0.31, and no probability leaves [0.27, 0.73].

    Computation: whether the model ends in a tanh or a cosine, whose values are in [-1, 1]; as logits they are within
    σ(±1).
    Threshold: none; `warn` where `loss` takes logits, `note` where the loss is not known. False alarms: none with the
    loss known.
    """
    link = subject.given.link
    if link is None or link.name not in BOUNDED or subject.probabilities:
        return OK
    takes_logits = None if subject.loss is None else wants_logits(subject.loss)
    if takes_logits is False:
        return OK
    return Result(
        "warn" if takes_logits else "note",
        f"The model ends in {link.name}: as a logit a score in [-1, 1] leaves the probability between 0.27 and 0.73.",
        {"least cross-entropy": math.log1p(math.exp(-1))},
        "Multiply it by a learned temperature and add a learned bias before the loss: nn.Linear(1, 1).",
        True,
    )
