"""The conformance suite catches what is wrong, by the right law, with a counter-example that a person can read."""

import subprocess
import sys
import unittest

import pytest
import torch
from torch import nn
from wrong_fusions import (
    PLANTED,
    Broadcasts,
    CentersTheBatch,
    ChangesDtype,
    Declared,
    Good,
    HiddenRandomness,
    HiddenWeight,
    InPlace,
    LooseWeight,
    NotAlways,
    NotSymmetric,
    RootOfSquares,
    TwoZeroFactors,
    Undeclared,
    ZeroByZero,
)

import pairfuse as pf
from pairfuse.testing import Check, LawError, check_fusion, parametrize_with_checks
from pairfuse.testing.case import FusionCase
from pairfuse.testing.laws import LAWS


def test_every_law_has_a_planted_fault():
    assert set(PLANTED) == set(LAWS)


@pytest.mark.parametrize(("law", "fusion"), [(law, fusion) for law, fusions in PLANTED.items() for fusion in fusions])
def test_each_planted_fault_is_caught_first_by_its_law(law, fusion):
    """The first check that fails is the one that names the fault."""
    case = FusionCase(fusion)
    results = (Check(name, max_examples=12).result(case) for name in LAWS)
    assert next(result.check for result in results if result.status == "FAILED") == law


def test_what_the_planted_faults_spoil_is_good():
    report = check_fusion(Good)
    assert report.ok, report
    assert {result.status for result in report.results} == {"passed", "does not apply"}


def test_the_report_of_a_fault_is_readable():
    """A broken law, what it says, and the simplest example of its kind."""
    report = check_fusion(NotSymmetric, max_examples=12)
    assert "law: Swapping u and v changes nothing (symmetric)" in str(report)
    failure = next(result for result in report.results if result.check == "symmetry")
    assert failure.message == "it declares symmetry='symmetric', but f(u, v) is not f(v, u)"
    assert failure.counter_example == {"u": [0.0], "v": [0.0625], "f(u, v)": [0.0625], "f(v, u)": [0.0]}


@pytest.mark.parametrize(
    ("fusion", "check", "words"),
    [
        (NotAlways, "xnor", "it declares xnor='always', but no linear layer tells same from different"),
        (InPlace, "leaves_inputs", "it changes u in place"),
        (CentersTheBatch, "rows", "change with the other rows"),
        (ZeroByZero, "finite", "it gives NaN or infinity"),
        (RootOfSquares, "gradient_at_equal", "at u = v the gradient of u is not finite"),
        (ChangesDtype, "dtype", "torch.float64 goes in, torch.float32 comes out"),
        (TwoZeroFactors, "trains", "two factors that are both zero never move"),
        (LooseWeight, "state", "weights is a plain attribute: state_dict(), .to() and optimizers do not see it"),
        (HiddenWeight, "state", "a fusion loaded from its state_dict computes something else"),
        (Broadcasts, "refuses_what_does_not_fit", "v of shape (1, 4) are accepted: write fuse, not forward"),
        (Undeclared, "declaration", "Undeclared must declare `xnor` as one of 'never', 'generic', 'always'"),
    ],
)
def test_what_each_fault_is_called(fusion, check, words):
    assert words in Check(check, max_examples=12).result(FusionCase(fusion)).message


def test_counter_examples_are_shrunk():
    """Hypothesis finds that zero and anything are what product cannot tell apart."""
    example = Check("xnor").result(FusionCase(NotAlways)).counter_example
    assert sorted([example["a"], example["b"]]) in ([[0.0], [1.0]], [[0.0], [0.0625]])


def test_what_cannot_be_built_is_not_tested_further():
    report = check_fusion(Undeclared, max_examples=1)
    assert [result.status for result in report.results] == ["FAILED"] + ["does not apply"] * (len(LAWS) - 1)


def test_an_expected_failure_is_no_failure():
    report = check_fusion(NotSymmetric, expected_to_fail={"symmetry": "under repair"}, max_examples=5)
    result = next(result for result in report.results if result.check == "symmetry")
    assert (result.status, result.message) == ("expected to fail", "under repair")
    assert report.ok


def test_an_unexpected_success_is_a_failure():
    report = check_fusion(Good, expected_to_fail={"symmetry": "under repair"}, max_examples=5)
    assert [result.status for result in report.failures] == ["PASSED UNEXPECTEDLY"]


def test_unknown_checks_are_refused():
    with pytest.raises(ValueError, match="unknown check 'symetry': did you mean 'symmetry'"):
        check_fusion(Good, expected_to_fail={"symetry": ""})
    with pytest.raises(ValueError, match="check_fusion expects max_examples to be at least 1, got 0"):
        check_fusion(Good, max_examples=0)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Good, "Good"),
        ("product", "product"),
        (["product", pf.fusions.AbsDiff(3)], "[product, AbsDiff]"),
        (pf.fusions.Bilinear(3, in2_features=2), "Bilinear"),
        (lambda width: pf.fusions.Bilinear(width, 3), "<lambda>"),
    ],
)
def test_what_can_be_checked(thing, name):
    """A class, a name, a list, a fusion that is built, or a function of a width."""
    report = check_fusion(thing, max_examples=5)
    assert report.ok, report
    assert str(report).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda width: nn.Linear(width, width), "expects a pairfuse.Fusion or a factory for one, got Linear"),
        (lambda width: pf.fusions.Product(3), "was asked for a fusion of in_features=4 and made one of 3: to test"),
        ("no-such-name", "unknown fusion 'no-such-name'"),
    ],
)
def test_what_cannot_be_checked(thing, words):
    assert words in check_fusion(thing).results[0].message


def test_a_class_with_more_arguments():
    class Scaled(pf.fusions.Product):
        def __init__(self, in_features, *, scale):
            super().__init__(in_features)

    words = r"calls Scaled\(width\), but .*'scale'\): pass a function .*, as in lambda width: Scaled\(width, …\)"
    with pytest.raises(TypeError, match=words):
        check_fusion(Scaled)


@pytest.mark.parametrize(
    "wrap", [lambda fusion: fusion, lambda fusion: ["product", fusion], lambda fusion: lambda _: fusion]
)
def test_nothing_is_left_behind(wrap):
    """A fusion that is given keeps its parameters, gradients, dtype and mode; the random state is as before."""
    fusion = pf.fusions.Bilinear(3, 2)
    before, state = fusion.weight.clone(), torch.get_rng_state()
    check_fusion(wrap(fusion), max_examples=5)
    assert fusion.weight.dtype == torch.float32
    assert torch.equal(fusion.weight, before)
    assert fusion.weight.grad is None
    assert fusion.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("thing", [None, 3, nn.Linear(2, 2)])
def test_what_can_be_no_fusion(thing):
    with pytest.raises(TypeError, match=r"check_fusion expects a pairfuse\.Fusion"):
        check_fusion(thing)


class GatedAtHalf(Declared):
    """Symmetric at its start only."""

    symmetry = "none"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.gate = nn.Parameter(torch.full((in_features,), 0.5))
        self.mix = nn.Parameter(torch.eye(in_features))
        self.count = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)

    def fuse(self, u, v):
        return (u @ self.mix) * v + self.gate * u + (1 - self.gate) * v


class Normed(Declared):
    symmetry, xnor = "none", "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(in_features, in_features))

    def fuse(self, u, v):
        return (self.layer(u) - v) ** 2


class LowRankUpdate(Declared):
    """One factor of zero, as in LoRA, moves after a step."""

    symmetry = "none"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.down = nn.Parameter(torch.randn(in_features, 2))
        self.up = nn.Parameter(torch.zeros(2, in_features))
        self.register_buffer("scale", torch.ones(()))

    def fuse(self, u, v):
        return (u + self.scale * u @ self.down @ self.up) * v


@pytest.mark.parametrize("fusion", [GatedAtHalf, LowRankUpdate, pf.fusions.Max(1), pf.fusions.Bilinear(1)])
def test_right_fusions_pass(fusion):
    report = check_fusion(fusion, max_examples=12)
    assert report.ok, report


def test_a_parametrized_layer_passes_though_torch_does_not_pickle_it():
    assert Check("state")(Normed) is None


@pytest.mark.parametrize(
    "context",
    [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_the_context_of_the_caller_does_not_matter(context):
    with context:
        report = check_fusion(pf.fusions.Bilinear, max_examples=5)
    assert report.ok, report


def test_what_was_compiled_stays_compiled():
    """No cache of torch.compile is dropped, and many checks in a row meet no limit of recompilations."""
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda x: x + 1, backend=counter)
    compiled(torch.ones(2))
    for _ in range(12):
        Check("compiles")(Good)
    compiled(torch.ones(2))
    assert counter.frame_count == 1


def test_a_random_fusion_leaves_the_random_state():
    state = torch.get_rng_state()
    check_fusion(HiddenRandomness, max_examples=5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fusion", [pf.fusions.Product(300), pf.fusions.Bilinear(200, 3)])
def test_a_wide_fusion_that_is_built_can_be_checked(fusion):
    """Hypothesis draws no number for each of its coordinates, and gradients are checked in a few directions."""
    report = check_fusion(fusion, max_examples=10)
    assert report.ok, report


def test_lists_are_lists():
    for wrong in ("product", Good(3), 3):
        with pytest.raises(TypeError, match="parametrize_with_checks expects a list of fusions, got"):
            parametrize_with_checks(wrong)
    with pytest.raises(TypeError, match=r"expected_to_fail must map names of checks to reasons, got \['compiles'\]"):
        check_fusion(Good, expected_to_fail=["compiles"])


def test_long_counter_examples_are_cut_off():
    error = LawError("message", u=torch.zeros(300))
    assert str(error).endswith("0.0, ...") or len(str(error)) < 300


def test_check_fusion_calls_the_fusion_a_bounded_number_of_times():
    """What it costs, counted in calls: some 900 for a fusion with weights, 40 for each law that draws examples."""
    calls = 0

    class Counted(pf.fusions.NTN):
        symmetry, additive, xnor = "none", False, "always"

        def forward(self, u, v):
            nonlocal calls
            calls += 1
            return super().forward(u, v)

    assert check_fusion(Counted).ok
    assert calls < 2000


def test_a_wide_fusion_is_not_called_for_each_of_its_width_squared_rows():
    calls = 0

    class Counted(pf.fusions.Product):
        symmetry, additive, xnor = "symmetric", False, "generic"

        def forward(self, u, v):
            nonlocal calls
            calls += 1
            return super().forward(u, v)

    Check("shapes", max_examples=10)(Counted(300))
    assert calls < 500


@parametrize_with_checks([Good], expected_to_fail={"symmetry": "never mind"})
def test_parametrized(fusion, check):
    """The tests below this one: a law each, and a strict xfail for what is expected to fail."""
    assert fusion is Good
    if check.name == "symmetry":
        raise LawError("as expected")
    check(fusion)


def test_ids_and_marks_of_the_parametrized_tests():
    mark = parametrize_with_checks([Good, "mou"], expected_to_fail={"rows": "reason"})
    ids = [parameter.id for parameter in mark.args[1]]
    assert ids[:2] == ["Good-declaration", "Good-leaves_inputs"]
    assert "mou-compiles" in ids
    assert [parameter.id for parameter in mark.args[1] if parameter.marks] == ["Good-rows", "mou-rows"]


def test_a_law_that_does_not_apply_is_not_collected():
    """It is neither a test nor a skip; one for a fusion that cannot be built is collected, so that it fails."""

    def collected(fusion):
        return {parameter.values[1].name for parameter in parametrize_with_checks([fusion]).args[1]}

    assert set(LAWS) - collected("product") == {"two_widths", "spans_sum", "translation"}
    assert {"two_widths", "gradient_at_equal"} & collected(pf.fusions.Bilinear(3, in2_features=2)) == set()
    assert "two_widths" not in collected(lambda width: pf.fusions.Bilinear(width))
    assert collected(Undeclared) == set(LAWS)


def test_only_the_laws_that_are_named():
    parameters = parametrize_with_checks([Good, "mou"], only=["xnor", "rows"]).args[1]
    assert [parameter.id for parameter in parameters] == ["Good-rows", "Good-xnor", "mou-rows", "mou-xnor"]
    with pytest.raises(ValueError, match="unknown check 'row': did you mean 'rows'"):
        parametrize_with_checks([Good], only=["row"])


def test_a_check_that_does_not_apply_says_so():
    with pytest.raises(unittest.SkipTest, match="two_widths is not declared"):
        Check("two_widths")(Good)


def test_the_report_counts_the_laws_that_apply():
    """Those that do not are listed in the last line; each result says why."""
    report = check_fusion(Good, max_examples=1)
    lines = str(report).splitlines()
    out = ["two_widths", "xnor_with_sum", "spans_sum", "feature_means", "translation", "terms"]
    count = len(LAWS) - len(out)
    assert lines[0] == f"Good: {count} laws apply: {count} passed; {len(out)} do not apply"
    assert lines[-1] == f"does not apply   {', '.join(out)}"
    assert len(lines) == 2 + count
    assert {result.check: result.message for result in report.results}["terms"] == "it has no left and right of its own"


def test_every_law_is_a_sentence():
    for name, law in LAWS.items():
        assert law.statement.endswith("."), name


def test_without_hypothesis_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['hypothesis'] = None; import pairfuse as pf\n"
        "try: pf.testing\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "hypothesis is not installed: pip install 'pairfuse[testing]'\n"


def test_other_attributes_are_as_unknown_as_ever():
    with pytest.raises(AttributeError, match="module 'pairfuse' has no attribute 'nothing'"):
        _ = pf.nothing
