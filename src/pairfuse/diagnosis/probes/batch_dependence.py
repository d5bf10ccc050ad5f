"""Probe `batch-dependence`."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.items.batches import count_items

MOVED = 1e-3  # of the spread of the logits
APART = 1.0  # standard deviations between the two sides' means


def batch_dependence(subject: Subject) -> Result:
    """Symptom: the score of a pair depends on what else is in its batch; good in training, wrong when served one by
    one.

    Computation: in eval mode, the logits of the given pairs beside those of the same pairs in batches of half the
    size, and one pair alone; in train mode, whether a batch norm is called once for each side, and how far apart the
    two batches are.
    Threshold: a change of 1e-3 of the logits' spread; two sides 1 standard deviation apart. False alarms: none for
    the first; sides may differ because the things differ in kind.
    """
    x1, x2 = subject.some_pairs()
    count = count_items("x1", x1)
    if count < 2:
        raise Skip("a single pair was given")
    if subject.random:
        raise Skip("the model is random: see train-eval-gap")
    together = subject.score(x1, x2).scores.double()
    half = torch.arange(0, count, 2)
    apart = subject.score(take(x1, half), take(x2, half)).scores.double()
    try:
        alone = subject.score(take(x1, [0]), take(x2, [0])).scores.double()
    except Exception as error:
        text = f"A batch of one pair fails: {type(error).__name__}: {str(error).splitlines()[0]}"
        advice = "Give squeeze the dimension to remove: scores.squeeze(1), not scores.squeeze()."
        return Result("warn", text, {"pairs in the batch that works": count}, advice, True)
    change = max(_change(together[half.to(together.device)], apart), _change(together[:1], alone))
    spread = float(together.nan_to_num().std()) or 1.0
    evidence: dict[str, Any] = {"change with the batch": change, "spread of the logits": spread}
    noise = 1000 * torch.finfo(subject.precision).eps * float(together.nan_to_num().abs().max())
    if change > max(MOVED * spread, noise):
        return Result(
            "warn",
            "In eval mode the score of a pair changes with the other pairs in its batch.",
            evidence,
            "Let nothing in forward mix the rows of a batch: no mean over dimension 0, no BatchNorm with "
            "track_running_stats=False. Take LayerNorm or GroupNorm, or running statistics.",
            True,
        )
    distance = _sides_apart(subject)
    if distance is None:
        return OK._replace(evidence=evidence)
    evidence["sides apart (standard deviations)"] = distance
    text = "A batch norm sees the two sides in separate batches, so that in train mode each has statistics of its own"
    advice = (
        "Encode both sides in one batch, encoder(torch.cat([x1, x2])), and split the result: that is what "
        "SiameseComparator does; or exchange x1 and x2 at random in half of the pairs."
    )
    if distance > APART:
        return Result(
            "warn", f"{text}; here they differ so much that it loses what tells them apart.", evidence, advice
        )
    return Result("note", f"{text}.", evidence, advice)


def _change(before: Tensor, after: Tensor) -> float:
    return float((before - after).nan_to_num().abs().max())


def _sides_apart(subject: Subject) -> float | None:
    """The largest distance between the two batches that one norm gets in train mode; None if it gets but one."""
    if subject.module is None:
        return None
    batches: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        batches[module].append(given[0].detach().transpose(0, 1).flatten(1).double())  # (C, values)

    hooks = [norm.register_forward_pre_hook(note) for norm in subject.trained_norms]
    try:
        subject.score(*subject.some_pairs(), trained=subject.trained_parts)
    finally:
        for hook in hooks:
            hook.remove()
    distances = [_distance(*seen) for seen in batches.values() if len(seen) == 2 and seen[0].shape == seen[1].shape]
    return max(distances) if distances else None


def _distance(left: Tensor, right: Tensor) -> float:
    between = (left.mean(1) - right.mean(1)).square()
    spread = torch.cat([left, right], 1).var(1)
    return float((between / spread.clamp_min(1e-12)).mean().sqrt())
