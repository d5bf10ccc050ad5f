"""Probe `not-finite`."""

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject


def not_finite(subject: Subject) -> Result:
    """Symptom: the loss is NaN from the first step on.

    Computation: what the model returns for the given pairs in eval mode. Threshold: a single NaN or infinity.
    False alarms: none; but a model may be finite here and not elsewhere.
    """
    values = subject.given.values
    bad = int((~values.isfinite()).sum())
    if not bad:
        return OK
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
