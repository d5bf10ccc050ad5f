"""Probe `frozen`."""

from pairfuse.diagnosis.embeddings import owners
from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def frozen(subject: Subject) -> Result:
    """Symptom: the loss does not move at all, or only as far as one side can bring it.

    Computation: which parameters have `requires_grad=False`. Threshold: `fail` where all have; `warn` where the whole
    encoder of one side is frozen and the other's is not; `note` for any other part. False alarms: a tower that is
    frozen on purpose, such as a momentum encoder.
    """
    subject.needs_module()
    parameters = subject.weights
    if not parameters:
        raise Skip("the model has no parameters")
    still = [name for name, (_, trained) in parameters.items() if not trained]
    evidence = {"frozen": len(still), "parameters": len(parameters)}
    if len(still) == len(parameters):
        text = "Every parameter has requires_grad=False: training changes nothing."
        return Result("fail", text, evidence, "Call requires_grad_(True) on what is to learn, the head at least.", True)
    if not still:
        return OK
    try:
        left, right = owners(subject)
    except Skip:
        left = right = set()
    for one, name in ((left - right, "x1"), (right - left, "x2")):
        if one and one <= set(still) and not (left | right) <= set(still):
            return Result(
                "warn",
                f"The encoder of {name} is frozen, that of the other input is not: only one side can move.",
                {**evidence, "frozen there": len(one)},
                "Freeze both sides or neither, unless it is meant.",
                proved=True,
            )
    text = f"Frozen: {', '.join(still[:3])}{' and others' if len(still) > 3 else ''}. Only the rest learns."
    return Result("note", text, evidence, proved=True)
