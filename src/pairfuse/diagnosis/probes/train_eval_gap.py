"""Probe `train-eval-gap`."""

import torch

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject

GAP = 0.25  # in probability
PASSES = 4


def train_eval_gap(subject: Subject) -> Result:
    """Symptom: the training loss is near 0, and in eval mode the answers are wrong.

    Computation: the probabilities of the given pairs in train mode, the mean of four passes, beside those in eval mode;
    and whether two calls in eval mode agree. Threshold: a root mean square of 0.25. False alarms: a model in its first
    steps, whose running statistics have not caught up yet; a model that is random on purpose.
    """
    subject.needs_module()
    pairs = subject.some_pairs()
    if subject.random:
        first, second = (subject.score(*pairs).scores for _ in range(2))
        change = float((first - second).nan_to_num().abs().max())
        return Result(
            "warn",
            "In eval mode the model says something else of the same pairs each time.",
            {"largest change of a score": change},
            "Call functional dropout with training=self.training, and draw no random numbers in eval mode.",
            proved=True,
        )
    modes = {type(part).__name__ for part in subject.trained_parts if not list(part.children())}
    if not any("Norm" in name or "Dropout" in name for name in modes) and not list(subject.needs_module().buffers()):
        return OK
    still = subject.given.logits.double().sigmoid()
    try:
        passes = [subject.score(*pairs, trained=subject.trained_parts).logits.double().sigmoid() for _ in range(PASSES)]
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
