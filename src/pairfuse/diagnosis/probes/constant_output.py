"""Probe `constant-output`."""

from pairfuse.diagnosis.grids import rms, rounding
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def constant_output(subject: Subject) -> Result:
    """Symptom: the same answer for every pair, whatever is shown.

    Computation: the spread of the logits over all pairs of the items, in eval mode. Threshold: what rounding leaves,
    8 units of the largest. False alarms: a head that starts at zero weights on purpose, before its first step.
    """
    values = subject.given.values
    if subject.given.link is None and bool((values == values[0]).all()) and not subject.grid.isfinite().all():
        return _constant(float(values.flatten()[0]), 0.0, len(values))
    grid = subject.grid
    if not grid.isfinite().all():
        raise Skip("some logits are not finite")
    spread = rms(grid - grid.mean())
    if spread > rounding(grid, subject.precision):
        return OK
    return _constant(float(grid.mean()), spread, grid.numel())


def _constant(score: float, spread: float, pairs: int) -> Result:
    return Result(
        "fail",
        f"All {pairs} pairs get the same score.",
        {"score": score, "spread (rms)": spread},
        "Look for the first layer whose output is the same for every item: often a ReLU whose inputs are all negative "
        "(start anew with a lower learning rate, or take LeakyReLU), or weights that are all zero.",
    )
