"""Probe `not-finite`."""

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject
from pairfuse.items.batches import tensors


def not_finite(subject: Subject) -> Result:
    """Symptom: the loss is NaN from the first step on.

    Computation: what the model returns for the given pairs in eval mode. Threshold: a single NaN or infinity.
    False alarms: none; but a model may be finite here and not elsewhere.
    """
    values = subject.given.values
    bad = int((~values.isfinite()).sum())
    if not bad:
        return OK
    given = {"x1": tensors("x1", subject.x1), "x2": tensors("x2", subject.x2)}
    sources = [name for name, parts in given.items() if not all(bool(part.isfinite().all()) for part in parts)]
    if sources:
        text = f"There is NaN or infinity in {' and '.join(sources)}, and so in {bad} of {values.numel()} scores."
        return Result("fail", text, {"not finite": bad}, "Look at how the items are read and normalised.", True)
    weights = [] if subject.module is None else subject.module.named_parameters()
    broken = [name for name, parameter in weights if not parameter.isfinite().all()]
    return Result(
        "fail",
        f"The model returns NaN or infinity, {bad} times among {values.numel()} scores."
        + (f" So is a weight of it: {broken[0]}." if broken else ""),
        {"not finite": bad, "scores": values.numel(), "weights not finite": len(broken)},
        "Start from fresh weights, and look for a division by zero, a square root or a logarithm of 0 or less, or a "
        "learning rate that is too high.",
        proved=True,
    )
