"""Probe `labels`."""

import math
from typing import Any

from torch import Tensor, nn

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.loss_kind import name_of, wants_zero_and_one
from pairfuse.diagnosis.memorizable import is_memorizable
from pairfuse.diagnosis.probe import OK, Result, Skip

RARE = 0.05
FEW = 8  # pairs, of which all may be of one kind by chance
CONFIDENT = 0.5  # how much lower the cross-entropy must be with inverted targets
SURE = 3  # standard deviations of a random order
POLARITY = "1.0 means same, 0.0 different, and a higher score more the same; some losses and data have it reversed."
NEGATE = "Negate the distance and add a learned bias before the loss. A target of 1 means same."


def labels(context: Context) -> Result:
    """Symptom: the loss sits at the entropy of the labels, or the model is confidently wrong.

    Computation: the values and the balance of the targets; the AUC of the scores, and the cross-entropy with the
    targets as they are and inverted; whether the given pairs can be memorized with one number for each item:
    that is so unless "same" and "different" alternate along a closed walk through the pairs.
    Threshold: `fail` for NaN, for values outside [0, 1] where `loss` is or calls a cross-entropy, a `warn` where
    no loss was given, and `fail` for one value only; `warn` for under 5 % of one, or an AUC significantly under 0.5
    while the inverted targets cost 0.5 less, or the scores are distances and the loss takes logits. False alarms: an
    untrained model may be inverted by chance, but is seldom confident.
    """
    y, same = context.sample.y, context.sample.same
    if y is None or same is None:
        raise Skip("no targets were given")
    values = sorted(set(y.tolist()))
    zero_one = wants_zero_and_one(context.loss, tuple(context.given.returned.shape))
    wanted = context.loss is None or zero_one or context.runner.probabilities
    undefined = math.isnan(sum(values))
    if undefined or (wanted and (values[0] < 0 or values[-1] > 1)):
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        expects = name_of(context.loss) if zero_one else "a probability" if context.loss else "a cross-entropy"
        advice = (
            "Targets are floats: 1.0 = same, 0.0 = different. For -1 and 1 that is y = (y + 1) / 2. If your loss takes "
            "other targets, pass loss=."
        )
        text = f"The targets are not 0 and 1, as {expects} needs, but {shown}."
        return Result("fail" if undefined or zero_one else "warn", text, {"values": shown}, advice)
    share = float(same.double().mean())
    evidence: dict[str, Any] = {"pairs": len(y), "same": share}
    if share in (0, 1):
        if context.ranking:
            return OK._replace(evidence=evidence)  # the chosen item first, always
        text = f"All {len(y)} targets are {'same' if share else 'different'}: nothing else can be learned."
        advice = "Draw about half of the pairs from one class, and shuffle."
        return Result("note" if len(y) < FEW else "fail", text, evidence, advice)
    evidence["cross-entropy of guessing"] = -share * math.log(share) - (1 - share) * math.log(1 - share)
    evidence["squared error of guessing"] = share * (1 - share)
    evidence["can be memorized"] = "yes" if is_memorizable(*context.sample.some_pairs(), same[:256]) else "no"
    order = _order(context, same)
    if order is not None:
        wrong, auc = order.pop("wrong way round"), order["AUC"]
        evidence |= order
        distance = bool(wrong) and context.returns_distance
        if distance and not context.takes_logits:
            text = f"The model returns a distance: it is larger for different pairs (AUC {auc:.2f})."
            return Result("note", text, evidence, f"This is right for a contrastive loss. For other losses: {NEGATE}")
        if wrong:
            text = f"Different pairs score higher than same ones (AUC {auc:.2f}): targets or scores are inverted."
            return Result("warn", text, evidence, NEGATE if distance else POLARITY)
    rare = min(share, 1 - share)
    if rare < RARE:
        text = f"Only {rare:.1%} of the targets are {'same' if share < 0.5 else 'different'}."
        return Result("warn", text, evidence, "Draw about half of the pairs from one class, or pass pos_weight=.")
    return OK._replace(evidence=evidence)


def area_under_roc(positive: Tensor, negative: Tensor) -> float:
    """How often a positive pair scores higher than a negative one; ties count half."""
    above = (positive[:, None] > negative).double() + (positive[:, None] == negative).double() / 2
    return float(above.mean())


def _order(context: Context, same: Tensor) -> dict[str, float] | None:
    """How the scores order the pairs, as evidence, and whether significantly the wrong way round."""
    logits = context.given.logits.double().cpu()
    same = same[: len(logits)]
    same, logits = same[logits.isfinite()], logits[logits.isfinite()]
    ones, zeros = logits[same], logits[~same]
    if min(len(ones), len(zeros)) < 2:
        return None
    auc = area_under_roc(ones, zeros)
    deviation = math.sqrt((len(same) + 1) / (12 * len(ones) * len(zeros)))  # of the AUC of a random order
    cost, y = nn.functional.binary_cross_entropy_with_logits, same.double()
    loss, turned = float(cost(logits, y)), float(cost(logits, 1 - y))
    wrong = auc < 0.5 - SURE * deviation and (context.returns_distance or turned < loss - CONFIDENT)
    return {"AUC": auc, "cross-entropy": loss, "with inverted targets": turned, "wrong way round": wrong}
