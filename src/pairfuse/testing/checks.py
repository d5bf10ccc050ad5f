"""Run the laws: `check_fusion`, and `parametrize_with_checks` for pytest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import SkipTest

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pairfuse._checks import check_int, require_package, unknown_name
from pairfuse.fusions import Fusion
from pairfuse.testing.case import FusionCase, FusionOrFactory
from pairfuse.testing.law import Law, LawError
from pairfuse.testing.laws import LAWS
from pairfuse.testing.report import Report, Result


@dataclass(frozen=True)
class Check:
    """One law for any fusion: `check(fusion)` raises `LawError` with a counter-example."""

    name: str
    max_examples: int = 50

    @property
    def law(self) -> str:
        """The law in one sentence."""
        return LAWS[self.name].statement

    def __call__(self, fusion_or_factory: FusionOrFactory) -> None:
        """Apply the law.

        Raises:
            LawError: The fusion breaks it.
            unittest.SkipTest: The law does not apply to this fusion.
        """
        law, case = LAWS[self.name], FusionCase(fusion_or_factory)
        if reason := law.why_not(case):
            raise SkipTest(reason)
        self._apply(law, case)

    def result(self, case: FusionCase, *, expected_to_fail: bool = False, reason: str = "") -> Result:
        """Apply the law and return the result."""
        law = LAWS[self.name]
        make = partial(Result, self.name, law=law.statement)
        try:
            if why_not := law.why_not(case):
                return make("does not apply", why_not)
            self._apply(law, case)
        except Exception as error:
            if expected_to_fail:
                return make("expected to fail", reason)
            if isinstance(error, LawError):
                return make("FAILED", error.message, error.counter_example)
            return make("FAILED", f"{type(error).__name__}: {error}")
        return make("PASSED UNEXPECTEDLY", reason) if expected_to_fail else make("passed")

    def _apply(self, law: Law, case: FusionCase) -> None:
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            if law.is_drawn:
                self._draw(law.run, case)
            else:
                law.run(case)

    def _draw(self, run: Callable[..., None], case: FusionCase) -> None:
        """Apply a law to examples that Hypothesis draws."""

        @settings(
            max_examples=self.max_examples,
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def on_examples(data: Any) -> None:
            run(case, data.draw)

        on_examples()


def check_fusion(
    fusion_or_factory: FusionOrFactory,
    *,
    expected_to_fail: Mapping[str, str] | None = None,
    max_examples: int = 50,
) -> Report:
    """Test that the facts of a fusion are true, and that it is a well-behaved module.

    This takes a few seconds. Hypothesis draws the same examples in every run and shrinks them, so the report shows a
    simple example of a broken law. The laws work on copies of the fusion, and torch's random state is restored.

    Args:
        fusion_or_factory: A `Fusion` class, a name, a list of names, or a function of a width that makes a fusion.
            These are built for several widths and seeds. A fusion is tested as it is.
        expected_to_fail: Names of checks that the fusion need not pass, each with the reason.
        max_examples: Number of examples to draw for each law.

    Returns:
        The report: `report.ok`, `report.failures`, and a table when printed.

    Raises:
        TypeError: `fusion_or_factory` is not a fusion and cannot make one, or `expected_to_fail` is not a mapping.
        ValueError: `expected_to_fail` names an unknown check.

    Examples:
        >>> import pairfuse as pf
        >>> class Larger(pf.Fusion):
        ...     symmetry, additive, xnor = "none", False, "generic"  # wrong: it is symmetric
        ...     def fuse(self, u, v):
        ...         return u.maximum(v)
        >>> report = pf.testing.check_fusion(Larger)
        >>> report.ok
        False
        >>> print(report.failures[0].message)
        it declares symmetry='none', but on 50 pairs it is symmetric
    """
    expected = _check_expected(expected_to_fail)
    case = FusionCase(fusion_or_factory)
    results: list[Result] = []
    for check in _all_checks("check_fusion", max_examples):
        if results and results[0].status == "FAILED":  # it cannot be called
            results.append(Result(check.name, "does not apply", "see declaration", law=check.law))
            continue
        reason = expected.get(check.name, "")
        results.append(check.result(case, expected_to_fail=check.name in expected, reason=reason))
    return Report(case.name, tuple(results))


def parametrize_with_checks(
    fusions: Iterable[FusionOrFactory],
    *,
    expected_to_fail: Mapping[str, str] | None = None,
    max_examples: int = 50,
    only: Iterable[str] | None = None,
) -> Any:
    """Return a decorator that makes a pytest test of every law that applies to each fusion.

    The test takes the arguments `fusion` and `check` and calls `check(fusion)`.

    Args:
        fusions: A list of arguments of `check_fusion`.
        expected_to_fail: Names of checks that become strict xfails, each with the reason.
        max_examples: Number of examples to draw for each law.
        only: Names of the checks to run. Default: all.

    Returns:
        The decorator.

    Raises:
        ImportError: pytest is not installed.
        TypeError: `fusions` is not a list of fusions, or `expected_to_fail` is not a mapping.
        ValueError: `expected_to_fail` or `only` names an unknown check.

    Examples:
        >>> import pairfuse as pf
        >>> @pf.testing.parametrize_with_checks(["product", lambda width: pf.fusions.Bilinear(width, 3)])
        ... def test_my_fusions(fusion, check):
        ...     check(fusion)
    """
    pytest = require_package("pytest", "testing")
    expected = _check_expected(expected_to_fail)
    if isinstance(fusions, (str, Fusion)) or not isinstance(fusions, Iterable):
        raise TypeError(f"parametrize_with_checks expects a list of fusions, got {fusions!r}: put it into brackets")
    names = LAWS.keys() if only is None else _known(only)
    parameters = [
        pytest.param(
            fusion,
            check,
            id=f"{case.name}-{check.name}",
            marks=[pytest.mark.xfail(reason=expected[check.name], strict=True)] if check.name in expected else [],
        )
        for fusion, case in [(fusion, FusionCase(fusion)) for fusion in fusions]
        for check in _all_checks("parametrize_with_checks", max_examples)
        if check.name in names and _may_apply(LAWS[check.name], case)
    ]
    return pytest.mark.parametrize(("fusion", "check"), parameters)


def _all_checks(caller: str, max_examples: int) -> list[Check]:
    max_examples = check_int(caller, "max_examples", max_examples)
    return [Check(name, max_examples) for name in LAWS]


def _may_apply(law: Law, case: FusionCase) -> bool:
    """True if a law applies to a fusion. Also True if the fusion cannot be built: its tests then fail."""
    try:
        return law.why_not(case) is None
    except Exception:
        return True


def _known(names: Iterable[str]) -> set[str]:
    names = list(names)
    for name in names:
        if name not in LAWS:
            raise unknown_name("check", name, LAWS)
    return set(names)


def _check_expected(expected_to_fail: Mapping[str, str] | None) -> dict[str, str]:
    if not isinstance(expected_to_fail, (Mapping, type(None))):
        raise TypeError(f"expected_to_fail must map names of checks to reasons, got {expected_to_fail!r}")
    _known(expected_to_fail or {})
    return dict(expected_to_fail or {})
