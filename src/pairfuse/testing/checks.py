"""Running the laws: `check_fusion` for anybody, `parametrize_with_checks` for pytest."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pairfuse._checks import check_int, require_package, unknown_name
from pairfuse.fusions import Fusion
from pairfuse.testing import algebra, behaviour
from pairfuse.testing.report import Report, Result
from pairfuse.testing.subject import DoesNotApply, FusionOrFactory, LawError, Subject

# In an order in which the first that fails tells most.
LAWS: dict[str, Callable[..., None]] = {
    law.__name__: law
    for law in (
        behaviour.declaration,
        behaviour.leaves_inputs,
        behaviour.deterministic,
        behaviour.finite,
        behaviour.rows,
        behaviour.shapes,
        behaviour.large_batches,
        behaviour.two_widths,
        behaviour.refuses_what_does_not_fit,
        behaviour.dtype,
        algebra.symmetry,
        algebra.additivity,
        algebra.xnor,
        algebra.xnor_with_sum,
        algebra.spans_sum,
        algebra.feature_means,
        algebra.factors,
        algebra.factors_apart,
        algebra.score_all,
        behaviour.gradients,
        behaviour.gradient_at_equal,
        behaviour.trains,
        behaviour.state,
        behaviour.compiles,
        behaviour.device,
    )
}


@dataclass(frozen=True)
class Check:
    """One law, ready to be applied to a fusion: `check(fusion)` raises `LawError` with a counter-example."""

    name: str
    max_examples: int = 50

    @property
    def law(self) -> str:
        """The law, in a sentence."""
        return inspect.getdoc(LAWS[self.name]) or ""

    def __call__(self, fusion_or_factory: FusionOrFactory) -> None:
        """Apply the law.

        Raises:
            LawError: The fusion breaks it.
            unittest.SkipTest: It says nothing of this fusion.
        """
        law, subject = LAWS[self.name], Subject(fusion_or_factory)
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            if "draw" in inspect.signature(law).parameters:
                self._run_drawn(law, subject)
            else:
                law(subject)

    def _run_drawn(self, law: Callable[..., None], subject: Subject) -> None:
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
        def run(data: Any) -> None:
            law(subject, data.draw)

        run()

    def result(self, fusion_or_factory: FusionOrFactory, *, expected_to_fail: bool = False, reason: str = "") -> Result:
        """Apply the law and tell what came of it."""
        tell = partial(Result, self.name, law=self.law)
        try:
            self(fusion_or_factory)
        except DoesNotApply as why:
            return tell("does not apply", str(why))
        except Exception as error:
            if expected_to_fail:
                return tell("expected to fail", reason)
            if isinstance(error, LawError):
                return tell("FAILED", error.message, error.counter_example)
            return tell("FAILED", f"{type(error).__name__}: {error}")
        return tell("PASSED UNEXPECTEDLY", reason) if expected_to_fail else tell("passed")


def check_fusion(
    fusion_or_factory: FusionOrFactory,
    *,
    expected_to_fail: Mapping[str, str] | None = None,
    max_examples: int = 50,
) -> Report:
    """Put a fusion through every law: that it is what it declares, and a well-behaved module.

    Takes some seconds. Examples are drawn by Hypothesis, the same in every run, and shrunk, so that what the report
    shows of a broken law is about as simple as can be. Nothing of yours is changed: the laws work on copies, and
    torch's random state is as before.

    Args:
        fusion_or_factory: A `Fusion` class, a name, a list of names, or any function of a width that makes a
            fusion, which is built for several widths and seeds; or a fusion, which is tested as it is.
        expected_to_fail: Names of checks that the fusion need not pass, each with the reason.
        max_examples: How many examples to draw for each law.

    Returns:
        The report: `report.ok`, `report.failures`, and a table when printed.

    Raises:
        TypeError: `fusion_or_factory` can be no fusion, or `expected_to_fail` is no mapping.
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
    subject = Subject(fusion_or_factory)
    results: list[Result] = []
    for check in _all_checks(max_examples):
        if results and results[0].status == "FAILED":  # it cannot even be called
            results.append(Result(check.name, "does not apply", "see declaration", law=check.law))
            continue
        results.append(
            check.result(
                fusion_or_factory, expected_to_fail=check.name in expected, reason=expected.get(check.name, "")
            )
        )
    return Report(subject.name, tuple(results))


def parametrize_with_checks(
    fusions: Iterable[FusionOrFactory],
    *,
    expected_to_fail: Mapping[str, str] | None = None,
    max_examples: int = 50,
) -> Any:
    """Make a pytest test of every law for every fusion, as a decorator.

    The test takes the arguments `fusion` and `check` and calls `check(fusion)`. A law that does not apply is skipped.

    Args:
        fusions: What `check_fusion` takes, several of them.
        expected_to_fail: Names of checks that become strict xfails, each with the reason.
        max_examples: How many examples to draw for each law.

    Returns:
        The decorator.

    Raises:
        ImportError: pytest is not installed.
        TypeError: `fusions` is not a list of them, or `expected_to_fail` is no mapping.
        ValueError: `expected_to_fail` names an unknown check.

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
    parameters = [
        pytest.param(
            fusion,
            check,
            id=f"{Subject(fusion).name}-{check.name}",
            marks=[pytest.mark.xfail(reason=expected[check.name], strict=True)] if check.name in expected else [],
        )
        for fusion in fusions
        for check in _all_checks(max_examples)
    ]
    return pytest.mark.parametrize(("fusion", "check"), parameters)


def _all_checks(max_examples: int) -> list[Check]:
    max_examples = check_int("check_fusion", "max_examples", max_examples)
    return [Check(name, max_examples) for name in LAWS]


def _check_expected(expected_to_fail: Mapping[str, str] | None) -> dict[str, str]:
    if not isinstance(expected_to_fail, (Mapping, type(None))):
        raise TypeError(f"expected_to_fail must map names of checks to reasons, got {expected_to_fail!r}")
    expected = dict(expected_to_fail or {})
    for name in expected:
        if name not in LAWS:
            raise unknown_name("check", name, LAWS)
    return expected
