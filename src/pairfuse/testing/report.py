"""The result of each check, and the report of all checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pairfuse.testing.law import shorten

Status = Literal["passed", "FAILED", "does not apply", "expected to fail", "PASSED UNEXPECTEDLY"]


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Attributes:
        check: The name of the law.
        status: `"passed"`, `"FAILED"`, `"does not apply"`, `"expected to fail"` (and it did) or `"PASSED
            UNEXPECTEDLY"`.
        message: The fault, or the reason why the law does not apply.
        counter_example: The embeddings that show the fault, by name, as nested lists.
        law: The law in one sentence.
    """

    check: str
    status: Status
    message: str = ""
    counter_example: Mapping[str, Any] = field(default_factory=dict)
    law: str = ""

    def __str__(self) -> str:
        lines = [f"{self.status:15}  {self.check:26}  {self.message}".rstrip()]
        if self.status == "FAILED":
            lines.append(f"{'':15}  law: {self.law}")
            lines += [f"{'':15}  {name} = {shorten(value)}" for name, value in self.counter_example.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The results of `check_fusion`. Printed, it counts the laws that apply and lists them.

    Attributes:
        fusion: The name of the fusion.
        results: One for each law, in the order in which they ran. If a law does not apply, `message` is the reason.
    """

    fusion: str
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """True if every law that applies holds, or fails as expected."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed, or passed unexpectedly."""
        return tuple(result for result in self.results if result.status in ("FAILED", "PASSED UNEXPECTEDLY"))

    def __str__(self) -> str:
        applied = [result for result in self.results if result.status != "does not apply"]
        others = [result.check for result in self.results if result.status == "does not apply"]
        counts = {status: sum(result.status == status for result in applied) for status in get_args(Status)}
        found = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        laws = "1 law applies" if len(applied) == 1 else f"{len(applied)} laws apply"
        lines = [f"{self.fusion}: {laws}: {found}", *map(str, applied)]
        if others:
            lines[0] += f"; {len(others)} do not apply"
            lines.append(f"{'does not apply':15}  {', '.join(others)}")
        return "\n".join(lines)
