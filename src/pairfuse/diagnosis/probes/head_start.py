"""Probe of the head: `head-start`."""

from typing import Any

import torch

from pairfuse._layers import layers_of
from pairfuse._modes import set_mode
from pairfuse._starting import last_layer, wants_start
from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.probe import OK, Result, Skip
from pairfuse.diagnosis.probes.labels import area_under_roc

STEPS = 300
LEARNING_RATE = 1e-3  # where no optimizer is given
RANKED = 0.8  # area under the ROC curve from which a ranking is worth keeping
ONE_SIDED = 0.95
LARGE, SMALL = 10, 0.05  # changes of a logit, in one step and in all


def head_start(context: Context) -> Result:
    """Symptom: on frozen embeddings the ranking is good before training and gets worse, or training is very slow.

    Computation: where the encoder does not learn, the half-way point between the mean logits of same and of different
    pairs, against the way of the bias in 300 steps at the optimizer's learning rate, 1e-3 if none is given; and, where
    the fusion does not learn either, the change of a logit in one step that moves every weight of the last layer by the
    learning rate. Threshold: `warn` where one step changes a logit by more than 10, or 300 steps by less than 0.05; or
    where nearly all logits have one sign, the scores rank the pairs (an area under the ROC curve of 0.8) and the bias
    cannot reach the half-way point. False alarms: an optimizer that takes other steps.
    """
    model, same = context.runner.module, context.sample.same
    last = last_layer(model.head) if type(model) is SiameseComparator and context.runner.call is model else None
    if not isinstance(model, SiameseComparator) or last is None or same is None:
        raise Skip("the model is not a SiameseComparator whose head ends in a linear layer with one output")
    learned = [name for name, (_, trained) in context.runner.weights.items() if trained]
    if any(name.startswith(("encoder.", "right_encoder.")) for name in learned):
        raise Skip("the encoder learns, so the embeddings change")
    x1, x2 = context.sample.some_pairs()
    set_mode(model, False)
    with torch.no_grad():
        u, v = model._encode_pairs(x1, x2)
        features = model._fuse(u, v)
        for layer in layers_of(model.head)[:-1]:
            features = layer(features)
        logits = last(features).squeeze(-1).double()
    same = same[: len(logits)].to(logits.device)
    if same.all() or not same.any():
        raise Skip("the targets of these pairs are all the same")
    groups = [] if context.optimizer is None else context.optimizer.param_groups
    rate = max((float(group["lr"]) for group in groups if "lr" in group), default=LEARNING_RATE)
    positive, negative = logits[same], logits[~same]
    area = area_under_roc(positive, negative)
    middle = float(positive.mean() + negative.mean()) / 2
    step = rate * float(features.abs().sum(-1).double().mean())
    evidence: dict[str, Any] = {
        "half-way between same and different": middle,
        f"way of the bias in {STEPS} steps": STEPS * rate,
        "area under the ROC curve": area,
        "change of a logit in one step": step,
    }
    advice = (
        "Call model.start_head(x1, x2, y) with one batch before training."
        if wants_start(model)
        else ("Set the bias of the head to minus the half-way point, and scale the embeddings to unit size.")
    )
    if not any(name.startswith("fusion.") for name in learned):
        if step > LARGE:
            text = "The embeddings are fixed and so large that one step can overturn all logits."
            return Result("warn", text, evidence, advice)
        if STEPS * step < SMALL:
            text = f"The embeddings are fixed and so small that {STEPS} steps can hardly change a logit."
            return Result("warn", text, evidence, advice)
    one_sided = max(float((logits > 0).double().mean()), float((logits < 0).double().mean())) >= ONE_SIDED
    if one_sided and area >= RANKED and abs(middle) > STEPS * rate:
        text = (
            "The head ranks the pairs well but calls nearly all of them the same or nearly all different, and its bias "
            f"cannot move as far as the threshold in {STEPS} steps: the weights will move, and the ranking may be lost."
        )
        return Result("warn", text, evidence, advice)
    return OK._replace(evidence=evidence)
