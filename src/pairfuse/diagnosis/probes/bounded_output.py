"""Probe `bounded-output`."""

import math

from pairfuse.diagnosis.function_recorder import BOUNDED
from pairfuse.diagnosis.loss_kind import wants_logits
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject

SLACK = 1e-3
LOW, HIGH = 1 / (1 + math.e), 1 / (1 + math.exp(-1))  # 0.27 and 0.73


def bounded_output(subject: Subject) -> Result:
    """Symptom: the loss stops at about 0.31 or 0.69, and no probability leaves [0.27, 0.73], or one side of 0.5.

    Computation: whether the model ends in a tanh or a cosine, or leaves [-1, 1] with no weights, however large they
    are drawn; σ(±1) is 0.27 and 0.73. The same of a logit that is never below, or never above, 0: then no probability
    is ever below, or above, 0.5. Threshold: none; `warn` where `loss` takes logits or probabilities, `note` where the
    loss is not known. False alarms: a model whose scores leave their bounds for other weights than those drawn.
    """
    subject.needs_varied_scores()
    link = subject.given.link
    seen = link is not None and link.name in BOUNDED and not subject.probabilities
    low, high = subject.range
    if subject.probabilities:
        middle, bounds = 0.5, (LOW, HIGH)
    else:
        middle, bounds = 0.0, (-1.0, 1.0)
    within = low >= bounds[0] - SLACK and high <= bounds[1] + SLACK
    one_side = low >= middle - SLACK or high <= middle + SLACK
    if not (seen or (subject.module is not None and (within or one_side))):
        return OK
    takes_logits = wants_logits(subject.loss)
    if subject.loss is not None and takes_logits is None:
        return OK  # a loss of another kind, for which such scores may be right
    evidence = {"least score": low, "greatest score": high}
    if seen or within:
        text = "No score leaves [-1, 1], as of a cosine or a tanh: as a logit it keeps the probability in [0.27, 0.73]."
        evidence["least cross-entropy"] = math.log1p(math.exp(-1))
    else:
        side = "below" if low >= middle - SLACK else "above"
        text = (
            f"No score is ever {side} {middle:g}: no pair can be called {'different' if side == 'below' else 'same'}."
        )
    return Result(
        "note" if subject.loss is None else "warn",
        text,
        evidence,
        "Multiply it by a learned temperature and add a learned bias before the loss: nn.Linear(1, 1).",
        seen,
    )
