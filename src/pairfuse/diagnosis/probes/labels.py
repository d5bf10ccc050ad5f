"""Probe `labels`."""

import graphlib
import math
from typing import Any, NamedTuple

from torch import Tensor, nn

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject, item_key

RARE = 0.05
CONFIDENT = 0.5  # how much lower the cross-entropy must be with the targets turned round
SURE = 3  # standard deviations of a random order
POLARITY = "1.0 means same, 0.0 different, and a higher score more the same; some losses and data have it reversed."
DISTANCE = "No score is ever below 0, as of a distance: negate it and add a learned bias before the loss. 1 = same."


def labels(subject: Subject) -> Result:
    """Symptom: the loss sits at the entropy of the labels, or the model is confidently wrong.

    Computation: the values and the balance of the targets; the AUC of the scores, and the cross-entropy with the
    targets as they are and turned round; whether the given pairs could be memorised by a score for each item: that is
    so unless "same" and "different" alternate along a closed walk through the pairs.
    Threshold: `fail` for values other than 0 and 1, or one value only; `warn` for under 5 % of one, or an AUC
    significantly under 0.5 while the turned targets cost 0.5 less. False alarms: an untrained model may be turned
    round by chance, but is seldom confident.
    """
    y = subject.y
    if y is None:
        raise Skip("no targets were given")
    values = sorted(set(y.tolist()))
    if not set(values) <= {0.0, 1.0}:
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        advice = "Targets are floats: 1.0 = same, 0.0 = different. For -1 and 1 that is y = (y + 1) / 2."
        return Result("fail", f"The targets are not 0 and 1 but {shown}.", {"values": shown}, advice, True)
    share = float(y.mean())
    evidence: dict[str, Any] = {"pairs": len(y), "same": share}
    if len(values) == 1:
        text = f"All {len(y)} targets are {values[0]:g}: nothing can be learned but that."
        return Result("fail", text, evidence, "Draw about half of the pairs from one class, and shuffle.", True)
    evidence["cross-entropy of guessing"] = -share * math.log(share) - (1 - share) * math.log(1 - share)
    evidence["squared error of guessing"] = share * (1 - share)
    order = _order(subject, y)
    if order is not None:
        evidence |= {"AUC": order.auc, "cross-entropy": order.loss, "with targets turned round": order.loss_turned}
        if order.turned:
            text = (
                f"The model scores different pairs higher than same ones (AUC {order.auc:.2f}): the targets, or the "
                "score, are the wrong way round."
            )
            return Result("warn", text, evidence, DISTANCE if order.distance else POLARITY)
    rare = min(share, 1 - share)
    if rare < RARE:
        text = f"Only {rare:.1%} of the targets are {'1' if share < 0.5 else '0'}."
        return Result("warn", text, evidence, "Draw about half of the pairs from one class, or pass pos_weight=.")
    if _memorisable(subject, y):
        text = "A score for each item could fit these pairs: a low training loss proves nothing about sameness."
        return Result("note", text, evidence, "Judge on items that were not trained on.", True)
    return OK._replace(evidence=evidence)


class _Order(NamedTuple):
    """How the scores order the pairs, and what they cost."""

    auc: float
    loss: float
    loss_turned: float
    distance: bool  # no score is ever below 0
    turned: bool


def _order(subject: Subject, y: Tensor) -> _Order | None:
    logits = subject.given.logits.double().cpu()
    y = y[: len(logits)]
    y, logits = y[logits.isfinite()], logits[logits.isfinite()]
    ones, zeros = logits[y == 1], logits[y == 0]
    if min(len(ones), len(zeros)) < 2:
        return None
    above = (ones[:, None] > zeros).double() + (ones[:, None] == zeros).double() / 2
    auc = float(above.mean())
    deviation = math.sqrt((len(y) + 1) / (12 * len(ones) * len(zeros)))  # of the AUC of a random order
    cost = nn.functional.binary_cross_entropy_with_logits
    loss, loss_turned = float(cost(logits, y)), float(cost(logits, 1 - y))
    distance = subject.module is not None and subject.range[0] >= 0 and not subject.probabilities
    wrong = auc < 0.5 - SURE * deviation and (distance or loss_turned < loss - CONFIDENT)
    return _Order(auc, loss, loss_turned, distance, wrong)


def _memorisable(subject: Subject, y: Tensor) -> bool:
    """Whether one number for each left and each right item fits the targets of all given pairs.

    With a left item's number g and a right item's number h, "same" says g > -h and "different" says g < -h: an order,
    which exists iff it has no cycle.
    """
    x1, x2 = subject.some_pairs()
    below: dict[tuple[str, bytes], set[tuple[str, bytes]]] = {}
    for index, same in enumerate((y[:256] == 1).tolist()):
        left, right = ("left", item_key(x1, index)), ("right", item_key(x2, index))
        above, under = (left, right) if same else (right, left)
        below.setdefault(above, set()).add(under)
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError:
        return False
    return True
