"""Probe `xnor-overfit`."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.module_search import named_weights
from pairfuse.diagnosis.probe import Result, Skip
from pairfuse.diagnosis.sample import Sample, cast, item_key, take
from pairfuse.items.batches import Batch, concatenate

STEPS = 60
RATES = (1e-2, 1e-3)
TRAINED = 0.95  # of the given pairs, on either side
SURE = 0.6  # the probability of the right answer
FLOOR = 0.6931


def xnor_overfit(context: Context) -> Result:
    """Symptom: none yet; this is the smallest thing that a model of "same" must be able to learn.

    Computation: a copy of the model is trained on two items and their four pairs, one batch without dropout, with Adam
    at two learning rates, 60 steps each. No additive model gets all four right, with batch norms either, since each
    side holds each item twice. Threshold: all four answers right, with a probability of 0.6. False alarms: a model may
    be merely slow; so it is a warning at most.
    """
    runner = context.runner
    if not any(trained for _, trained in runner.weights.values()):
        raise Skip("no parameter is trainable")
    if context.returns_distance:
        raise Skip("no score was seen below 0: pass the negative of a distance, with a bias")
    if (right := rightly_answered(context)) >= TRAINED:
        return Result("ok", evidence={"given pairs answered rightly": right})
    x1, x2, y = _quartet(context.sample)
    losses, dtype = [], None
    if context.held_precision.itemsize < 4:  # in which Adam may overflow
        with suppress(Exception), runner.sandbox(dtype=torch.float32):  # a model that casts by itself does not run
            wide = cast(x1, torch.float32), cast(x2, torch.float32)
            runner.score(*wide)
            (x1, x2), dtype = wide, torch.float32
    for rate in RATES:
        with runner.sandbox(dtype=dtype):
            steps, loss, learned = _train(context, x1, x2, y, rate)
        losses.append(loss)
        if learned:
            return Result("ok", evidence={"steps of Adam": steps, "learning rate": rate, "cross-entropy": loss})
    best = min(losses, key=lambda loss: loss if loss == loss else float("inf"))
    floor = " That is the floor of a model that cannot learn it." if abs(best - FLOOR) < 1e-3 else ""
    return Result(
        "warn",
        f"{len(RATES) * STEPS} steps of Adam did not teach it two items and their four pairs.{floor}",
        {"cross-entropy": best, "guessing": FLOOR, "learning rates": RATES},
        "It may just be slow: try these four pairs yourself, for longer. If the loss stays, look at how the two "
        "embeddings meet, at clamped or dead weights, and at the scale of the inputs.",
    )


def rightly_answered(context: Context) -> float:
    """The smaller share of right answers, among the same and among the different of the given pairs."""
    if context.sample.same is None:
        return 0.0
    logits, scores = context.given.logits.cpu(), context.given.scores.cpu()
    says_same = (scores > 0.5).where(logits.isnan(), logits > 0)  # a probability of 0 or 1 has no logit
    same = context.sample.same[: len(logits)]
    sides = says_same[same], ~says_same[~same]
    return min(float(side.double().mean()) if len(side) > 1 else 0.0 for side in sides)


def _quartet(sample: Sample) -> tuple[Batch, Batch, Tensor]:
    """Two items a, b as the pairs (a, a), (a, b), (b, a), (b, b), with their targets."""
    y, rows, columns = torch.tensor([1.0, 0.0, 0.0, 1.0]), [0, 0, 1, 1], [0, 1, 0, 1]
    same = torch.zeros(0, dtype=torch.bool) if sample.same is None else sample.same
    if sample.same_kind:  # those of the first pair with target 0, or the first two different items
        apart = (i for i in (~same).nonzero().flatten().tolist() if item_key(sample.x1, i) != item_key(sample.x2, i))
        first = next(apart, None)
        items = sample.left if first is None else concatenate(take(sample.x1, [first]), take(sample.x2, [first]))
        return take(items, rows), take(items, columns), y
    if sample.same is None:
        raise Skip("for two kinds of things it needs targets, to know which go together")
    matched = same.nonzero().flatten().tolist()
    for i in matched:
        if all(item_key(x, i) != item_key(x, matched[0]) for x in (sample.x1, sample.x2)):
            pairs = torch.tensor([matched[0], i])
            return take(sample.x1, pairs[rows]), take(sample.x2, pairs[columns]), y
    raise Skip("it needs two different pairs with target 1")


def _train(context: Context, x1: Batch, x2: Batch, y: Tensor, rate: float) -> tuple[int, float, bool]:
    """How many steps it took, the cross-entropy in the end, and whether all four answers are right."""
    parameters = [p for p in named_weights(context.runner.module).values() if p.requires_grad]
    optimizer: Any = torch.optim.Adam(parameters, lr=rate)
    with torch.enable_grad():
        for step in range(STEPS + 1):
            logits = _logits(context, x1, x2)
            target = y.to(logits)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
            learned = bool(((1 - target - logits.sigmoid()).abs() >= SURE).all())
            if learned or step == STEPS or not loss.isfinite():
                break
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return step, loss.item(), learned


def _logits(context: Context, x1: Batch, x2: Batch) -> Tensor:
    output = context.runner.score(x1, x2, trained=context.runner.trained_norms, gradients=True)
    if output.logits.isfinite().all():
        return output.logits
    return output.scores.clamp(1e-6, 1 - 1e-6).logit()
