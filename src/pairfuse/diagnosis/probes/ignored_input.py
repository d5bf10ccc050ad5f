"""Probe `ignored-input`."""

from pairfuse.diagnosis.anova import rms, rounding, shares
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Subject

LITTLE = 1e-4


def ignored_input(subject: Subject) -> Result:
    """Symptom: accuracy is that of a model that sees one of the two things.

    Computation: how much the logits of all pairs change when only `x1`, or only `x2`, is exchanged. Threshold: `fail`
    at what rounding leaves, `warn` where the input explains, alone and together with the other, under 1e-4 of the
    variance.
    False alarms: a side that is scaled far smaller than the other may still be learned from.
    """
    subject.needs_varied_scores()
    grid = subject.grid
    noise, parts = rounding(grid, subject.precision), shares(grid)
    sides = {
        "x1": (rms(grid - grid.mean(0, keepdim=True)), parts.left + parts.interaction),
        "x2": (rms(grid - grid.mean(1, keepdim=True)), parts.right + parts.interaction),
    }
    for name, (change, share) in sides.items():
        other = "x2" if name == "x1" else "x1"
        evidence = {f"change with {name} (rms)": change, f"change with {other} (rms)": sides[other][0]}
        advice = (
            f"Follow {name} through forward, and look for a name used twice, a slice that leaves it out, an "
            "encoder whose output is constant (a dead ReLU), or weights of zero."
        )
        if change <= noise:
            return Result("fail", f"Exchanging {name} changes no logit: the model does not read it.", evidence, advice)
        if share < LITTLE:
            evidence = {**evidence, f"share of the variance due to {name}": share}
            return Result("warn", f"Exchanging {name} changes next to nothing.", evidence, advice)
    return OK
