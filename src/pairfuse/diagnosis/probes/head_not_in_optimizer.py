"""Probe `head-not-in-optimizer`."""

from pairfuse.diagnosis.probes.result import OK, Result
from pairfuse.diagnosis.subject import Skip, Subject


def head_not_in_optimizer(subject: Subject) -> Result:
    """Symptom: a part of the model never changes, and the loss stops early.

    Computation: which parameters that want gradients the optimizer does not hold, those of modules in plain lists
    too; whether it holds any of this model's; whether its learning rates are above 0. Threshold: none; `fail` where
    nothing of the model is trained, `warn` where a part is not. False alarms: a second optimizer that holds the rest.
    """
    if subject.optimizer is None:
        raise Skip("no optimizer was given")
    subject.needs_module()
    groups = subject.optimizer.param_groups
    held = {id(parameter) for group in groups for parameter in group["params"]}
    wanted = {name: key for name, (key, trained) in subject.weights.items() if trained}
    missing = [name for name, key in wanted.items() if key not in held]
    evidence = {"parameters that want gradients": len(wanted), "not in the optimizer": len(missing)}
    if wanted and len(missing) == len(wanted):
        return Result(
            "fail",
            "The optimizer holds none of the model's parameters: it trains another model.",
            evidence,
            "Make the optimizer from model.parameters(), after the model got its last layer and was copied or wrapped.",
            proved=True,
        )
    if missing:
        return Result(
            "warn",
            f"The optimizer does not hold {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}.",
            evidence,
            "Pass model.parameters(), the head's included, unless a second optimizer holds them; put modules into "
            "nn.ModuleList or nn.ModuleDict; set requires_grad_(False) on what is to stay as it is.",
            proved=True,
        )
    rates = [float(group["lr"]) for group in groups if "lr" in group and group["params"]]
    if rates and min(rates) == 0:
        text = "A learning rate of the optimizer is 0."
        return Result("warn", text, {"learning rates": rates}, "Look at the scheduler's warm-up.", True)
    return OK
