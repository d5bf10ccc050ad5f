"""Probes of what else the scores depend on, the batch and the mode: `batch-dependence`, `train-eval-gap`."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.anova import rounding
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.probe import OK, Result, Skip
from pairfuse.diagnosis.sample import take
from pairfuse.items.batches import count_items

MOVED = 1e-3  # of the spread of the logits
ROUNDINGS = 100  # a batch of another size may be summed in another order
APART = 1.0  # standard deviations between the two sides' means
GAP = 0.25  # in probability
PASSES = 4


def batch_dependence(context: Context) -> Result:
    """Symptom: the score of a pair depends on what else is in its batch; good in training, wrong when served one by
    one.

    Computation: in eval mode, the scores of the given pairs compared with those of the same pairs in batches of half
    the size, and of one pair alone; in train mode, whether a batch norm is called once for each side, and how far apart
    the two batches are.
    Threshold: a change of 1e-3 of the scores' spread; two sides 1 standard deviation apart. False alarms: none for
    the first; sides may differ because the things differ in kind.
    """
    x1, x2 = context.sample.some_pairs()
    count = count_items("x1", x1)
    if count < 2:
        raise Skip("a single pair was given")
    if context.random:
        raise Skip("the model is random: see train-eval-gap")
    together = context.runner.score(x1, x2).scores.double()
    half = torch.arange(0, count, 2)
    apart = context.runner.score(take(x1, half), take(x2, half)).scores.double()
    try:
        alone = context.runner.score(take(x1, [0]), take(x2, [0])).scores.double()
    except Exception as error:
        text = f"A batch of one pair fails: {type(error).__name__}: {''.join(str(error).splitlines()[:1])}"
        advice = "Give squeeze the dimension to remove: scores.squeeze(1), not scores.squeeze()."
        return Result("warn", text, {"pairs in the batch that works": count}, advice)
    change = max(_change(together[half.to(together.device)], apart), _change(together[:1], alone))
    spread = float(together.nan_to_num().std()) or 1.0
    evidence: dict[str, Any] = {"change with the batch": change, "spread of the logits": spread}
    size = context.runner.magnitude(x1, x2, together, context.precision, of="scores", pairwise=True)
    noise = ROUNDINGS * rounding(size, context.precision)
    evidence["rounding"] = noise
    if change > max(MOVED * spread, noise):
        return Result(
            "warn",
            "In eval mode the score of a pair changes with the other pairs in its batch.",
            evidence,
            "Let nothing in forward mix the rows of a batch: no mean over dimension 0, no BatchNorm with "
            "track_running_stats=False. Take LayerNorm or GroupNorm, or running statistics.",
        )
    distance = _sides_apart(context)
    if distance is None:
        return OK._replace(evidence=evidence)
    evidence["sides apart (standard deviations)"] = distance
    text = "A batch norm sees the two sides in separate batches, so that in train mode each has its own statistics"
    advice = (
        "Encode both sides in one batch, encoder(torch.cat([x1, x2])), and split the result, as SiameseComparator "
        "does; or exchange x1 and x2 at random in half of the pairs."
    )
    if distance > APART:
        text += "; here they differ so much that the norm removes what distinguishes them"
        return Result("warn", f"{text}.", evidence, advice)
    return Result("note", f"{text}.", evidence, advice)


def _change(before: Tensor, after: Tensor) -> float:
    return float((before - after).nan_to_num().abs().max())


def _sides_apart(context: Context) -> float | None:
    """The largest distance between the two batches that one norm gets in train mode; None if it gets only one."""
    batches: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        batches[module].append(given[0].detach().transpose(0, 1).flatten(1).double())  # (C, values)

    hooks = [norm.register_forward_pre_hook(note) for norm in context.runner.trained_norms]
    if not hooks:
        return None
    try:
        context.runner.score(*context.sample.some_pairs(), trained=context.runner.trained_parts)
    finally:
        for hook in hooks:
            hook.remove()
    distances = [_distance(*seen) for seen in batches.values() if len(seen) == 2 and seen[0].shape == seen[1].shape]
    return max(distances) if distances else None


def _distance(left: Tensor, right: Tensor) -> float:
    between = (left.mean(1) - right.mean(1)).square()
    spread = torch.cat([left, right], 1).var(1)
    return float((between / spread.clamp_min(1e-12)).mean().sqrt())


def train_eval_gap(context: Context) -> Result:
    """Symptom: the training loss is near 0, and in eval mode the answers are wrong.

    Computation: the probabilities of the given pairs in train mode, the mean of four passes, compared with those in
    eval mode; and whether two calls in eval mode agree. Threshold: a root mean square of 0.25. False alarms: a model in
    its first steps, whose running statistics have not caught up yet; a model that is random on purpose.
    """
    runner, pairs = context.runner, context.sample.some_pairs()
    if context.random:
        first, second = (runner.score(*pairs).scores for _ in range(2))
        return Result(
            "warn",
            "In eval mode the model gives the same pairs other scores each time.",
            {"largest change of a score": _change(first, second)},
            "Call functional dropout with training=self.training, and draw no random numbers in eval mode.",
        )
    modes = {type(part).__name__ for part in runner.trained_parts if not list(part.children())}
    if not any("Norm" in name or "Dropout" in name for name in modes) and not list(runner.module.buffers()):
        return OK
    still = context.given.logits.double().sigmoid()
    try:
        passes = [runner.score(*pairs, trained=runner.trained_parts).logits.double().sigmoid() for _ in range(PASSES)]
    except ValueError as error:  # a batch norm refuses a single value
        raise Skip(f"the model does not run in train mode: {error}") from error
    gap = float((torch.stack(passes).mean(0) - still).nan_to_num().square().mean().sqrt())
    evidence = {"difference in probability (rms)": gap}
    if gap <= GAP:
        return OK._replace(evidence=evidence)
    return Result(
        "warn",
        "The model answers differently in train and in eval mode.",
        evidence,
        "Judge it in eval mode. If BatchNorm is the reason, its running statistics have not caught up, or are those of "
        "other data: train on with a lower learning rate, or take GroupNorm. If dropout is, lower its rate.",
    )
