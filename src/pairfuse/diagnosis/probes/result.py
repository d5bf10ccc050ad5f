"""What a probe returns."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pairfuse.diagnosis.report import Verdict


class Result(NamedTuple):
    """The verdict of a probe; `Finding` says what the fields mean."""

    verdict: Verdict
    summary: str = ""
    evidence: Mapping[str, Any] = {}
    advice: str = ""
    proved: bool = False


OK = Result("ok")
