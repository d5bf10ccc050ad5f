"""Tests for your fusions and models. Needs `pip install "pairfuse[testing]"`."""

from pairfuse._checks import require_package

require_package("hypothesis", "testing")

from pairfuse.testing.checks import Check, check_fusion, parametrize_with_checks  # noqa: E402
from pairfuse.testing.law import LawError  # noqa: E402
from pairfuse.testing.models import assert_can_learn_same  # noqa: E402
from pairfuse.testing.report import Report, Result  # noqa: E402

__all__ = [
    "Check",
    "LawError",
    "Report",
    "Result",
    "assert_can_learn_same",
    "check_fusion",
    "parametrize_with_checks",
]
