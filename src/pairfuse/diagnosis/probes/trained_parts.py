"""Probes of what training can move: `frozen`, `head-not-in-optimizer`."""

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.embeddings import owners
from pairfuse.diagnosis.probe import OK, Result, Skip


def frozen(context: Context) -> Result:
    """Symptom: the loss does not move at all, or only as far as one side can bring it.

    Computation: which parameters have `requires_grad=False`. Threshold: `fail` where all have; `warn` where the whole
    encoder of one side is frozen and the other's is not; `note` for any other part. False alarms: a tower that is
    frozen on purpose, such as a momentum encoder.
    """
    parameters = context.runner.weights
    still = [name for name, (_, trained) in parameters.items() if not trained]
    evidence = {"frozen": len(still), "parameters": len(parameters)}
    if len(still) == len(parameters):
        text = "Every parameter has requires_grad=False: training changes nothing."
        advice = "Call requires_grad_(True) on what is to learn, the head at least."
        return Result("fail", text, evidence, advice, "verified")
    if not still:
        return OK
    try:
        left, right = owners(context)
    except Skip:
        left = right = set()
    for one, name in ((left - right, "x1"), (right - left, "x2")):
        if one and one <= set(still) and not (left | right) <= set(still):
            text = f"The encoder of {name} is frozen, that of the other input is not: only one side can move."
            advice = "Freeze both sides or neither, unless it is meant."
            return Result("warn", text, {**evidence, "frozen there": len(one)}, advice, "verified")
    return Result("note", f"Frozen: {_some(still)}. Only the rest learns.", evidence, ground="verified")


def head_not_in_optimizer(context: Context) -> Result:
    """Symptom: a part of the model never changes, and the loss stops early.

    Computation: which trainable parameters the optimizer does not hold, those of modules in plain lists
    too; whether it holds any of this model's; whether its learning rates are above 0. Threshold: none; `fail` where
    nothing of the model is trained, `warn` where a part is not. False alarms: a second optimizer that holds the rest.
    """
    groups = [] if context.optimizer is None else context.optimizer.param_groups
    held = {id(parameter) for group in groups for parameter in group["params"]}
    wanted = {name: key for name, (key, trained) in context.runner.weights.items() if trained}
    missing = [name for name, key in wanted.items() if key not in held]
    evidence = {"trainable parameters": len(wanted), "not in the optimizer": len(missing)}
    if wanted and len(missing) == len(wanted):
        text = "The optimizer holds none of the model's parameters: it trains another model."
        advice = (
            "Make the optimizer from model.parameters(), after the model got its last layer and was copied or wrapped."
        )
        return Result("fail", text, evidence, advice, "verified")
    if missing:
        return Result(
            "warn",
            f"The optimizer does not hold {_some(missing)}.",
            evidence,
            "Pass all of model.parameters() to the optimizer, unless a second one holds the rest; put modules into "
            "nn.ModuleList or nn.ModuleDict, not into plain lists; set requires_grad_(False) on what must not change.",
            "verified",
        )
    rates = [float(group["lr"]) for group in groups if "lr" in group and group["params"]]
    if rates and min(rates) == 0:
        text = "A learning rate of the optimizer is 0."
        return Result("warn", text, {"learning rates": rates}, "Look at the scheduler's warm-up.", "verified")
    return OK


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
