"""A probe, as data: what it looks for, what it needs, and which findings make it pointless."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.report import Ground, Verdict

Need = Literal["module", "parameters", "y", "loss", "optimizer", "one kind of item", "no order"]

NEEDS: dict[Need, tuple[Callable[[Context], bool], str]] = {
    "module": (lambda c: c.runner.has_module, "the model is a callable whose module is not known: pass module="),
    "parameters": (lambda c: bool(c.runner.weights), "the model has no parameters"),
    "y": (lambda c: c.sample.y is not None, "no targets were given"),
    "loss": (lambda c: c.loss is not None, "no loss was given"),
    "optimizer": (lambda c: c.optimizer is not None, "no optimizer was given"),
    "one kind of item": (lambda c: c.sample.same_kind, "the two sides take different kinds of items"),
    "no order": (lambda c: not c.ranking, "the model is a ranking, in which the order matters"),
}


class Result(NamedTuple):
    """The verdict of a probe; `Finding` explains the fields."""

    verdict: Verdict
    summary: str = ""
    evidence: Mapping[str, Any] = {}
    advice: str = ""
    ground: Ground = "observed"


OK = Result("ok")


class Skip(Exception):  # noqa: N818 - not an error: the probe gives the reason
    """A probe does not apply to this model or sample."""


class Undecided(Exception):  # noqa: N818
    """A probe applies, and could not get an answer."""


@dataclass(frozen=True)
class Probe:
    """One check.

    Attributes:
        id: Its name in findings; it stays the same from version to version.
        run: The check; raises `Skip` where it does not apply.
        needs: What the user must have given, or the model must have.
        blocked_by: Findings, by id, and the verdicts with which they make this check pointless.
        decisive: True if `Diagnosis.ok` must be False where the check could not run.
    """

    id: str
    run: Callable[[Context], Result]
    needs: tuple[Need, ...] = ()
    blocked_by: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    decisive: bool = False

    def __call__(self, context: Context) -> Result:
        """Run the check inside the sandbox; raise `Skip` where something is missing or another finding explains it."""
        for id, verdicts in self.blocked_by.items():
            if id in context.findings and context.findings[id].verdict in verdicts:
                raise Skip(f"see {id}")
        for need in self.needs:
            given, reason = NEEDS[need]
            if not given(context):
                raise Skip(reason)
        with context.runner.sandbox():
            return self.run(context)
