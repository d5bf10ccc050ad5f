"""The result of each check, and the table of them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pairfuse.testing.subject import shorten

Status = Literal["passed", "FAILED", "does not apply", "expected to fail", "PASSED UNEXPECTEDLY"]


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        check: The name of the law.
        status: `"passed"`, `"FAILED"`, `"does not apply"`, `"expected to fail"` (and it did) or `"PASSED
            UNEXPECTEDLY"`.
        message: What is wrong, or why the law does not apply.
        counter_example: The embeddings that show it, by name, as nested lists.
        law: The law, in a sentence.
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
    """What `check_fusion` found; prints as a table.

    Attributes:
        fusion: The name of the fusion.
        results: One for each check, in the order in which they ran.
    """

    fusion: str
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether every law that applies holds, or fails as expected."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed, or passed unexpectedly."""
        return tuple(result for result in self.results if result.status in ("FAILED", "PASSED UNEXPECTEDLY"))

    def __str__(self) -> str:
        counts = {status: sum(result.status == status for result in self.results) for status in get_args(Status)}
        head = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return "\n".join([f"{self.fusion}: {head}", *map(str, self.results)])
