"""Every registered fusion, variant and wrapper keeps the laws, and agrees with its oracle."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import ORACLES, exact

import pairfuse as pf
from pairfuse.fusions import MFB, NTN, Bilinear, Concat, Diff, Product, Stack, Symmetrized
from pairfuse.testing import parametrize_with_checks
from pairfuse.testing.case import FusionCase
from pairfuse.testing.strategies import embedding_pairs, vectors

EXAMPLES = 12  # find every planted fault of tests/testing/test_checks.py
NAMES = pf.list_fusions()
VARIANTS = [(name, options) for name in NAMES for options in (ORACLES[name].options if name in ORACLES else [{}])]
each_name = pytest.mark.parametrize("name", NAMES)
each_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{name} {options}" if options else name for name, options in VARIANTS]
)


def factory(name, options):
    """A factory with a name to read in the report."""
    make = partial(pf.make_fusion, name, **options)
    make.__name__ = f"{name} {options}"
    return make


def power_normalized(fusion):
    return pf.fusions.PowerNormalized(fusion, eps=1e-3)  # with 1e-6 the slope at 0 is beyond finite differences


COMBINED = {
    "Symmetrized(Bilinear)": lambda width: Symmetrized(Bilinear(width, 2)),
    "Symmetrized(NTN)": lambda width: Symmetrized(NTN(width)),
    "Symmetrized(Concat)": lambda width: Symmetrized(Concat(width)),
    "Symmetrized(Mou)": lambda width: Symmetrized(pf.make_fusion("mou", width)),
    "Symmetrized([Diff, Concat])": lambda width: Symmetrized(Stack([Diff(width), Concat(width)])),
    "PowerNormalized(MFB)": lambda width: power_normalized(MFB(width)),
    "PowerNormalized(Mou)": lambda width: power_normalized(pf.make_fusion("mou", width)),
    "[product, [bilinear, sum]]": lambda width: pf.make_fusion(["product", ["bilinear", "sum"]], width),
    "[cosine, diff]": lambda width: pf.make_fusion(["cosine", "diff"], width),
}
BUILT = [
    MFB(4, 2, in2_features=3),
    NTN(1),
    Bilinear(1),
    power_normalized(Product(3)),
    power_normalized(Diff(3)),
    power_normalized(Concat(2, in2_features=3)),
]
for _name, _factory in COMBINED.items():
    _factory.__name__ = _name


# What an option can change: the features are other functions of u and v, with other parameters. The rest is one code.
OF_OPTIONS = ["declaration", "dtype", "symmetry", "additivity", "xnor", "xnor_with_sum", "spans_sum", "feature_means"]
OF_OPTIONS += ["terms", "all_pairs", "gradients", "trains", "state"]
OPTIONS = [factory(name, options) for name, options in VARIANTS if options]


@parametrize_with_checks(NAMES, max_examples=EXAMPLES)
def test_registered_fusions_keep_the_laws(fusion, check):
    check(fusion)


@parametrize_with_checks(OPTIONS, max_examples=EXAMPLES, only=OF_OPTIONS)
def test_options_keep_the_laws_that_they_can_change(fusion, check):
    check(fusion)


@parametrize_with_checks([*COMBINED.values(), *BUILT], max_examples=EXAMPLES)
def test_wrappers_and_stacks_keep_the_laws(fusion, check):
    check(fusion)


@pytest.mark.slow
@parametrize_with_checks([*NAMES, *OPTIONS, *COMBINED.values(), *BUILT], max_examples=20)
def test_all_fusions_keep_all_laws_on_more_examples(fusion, check):
    check(fusion)


@each_name
def test_has_an_oracle(name):
    """Completeness is checked, not remembered."""
    assert name in ORACLES, f"write an oracle for {name!r} in tests/oracles.py"


@each_variant
def test_width(name, options):
    """The width is the oracle's, or the one that was asked for."""
    assert pf.make_fusion(name, 5, **options).out_features == options.get("out_features", ORACLES[name].out_features(5))


@each_variant
@given(data=st.data())
def test_values(name, options, data):
    """The values are those of the formula, computed without torch in exact fractions."""
    width = data.draw(st.integers(1, 4))
    u, v = data.draw(vectors(width)), data.draw(vectors(width))
    fusion = FusionCase(factory(name, options)).build(width)
    expected = [float(value) for value in ORACLES[name].values(fusion, exact(u), exact(v))]
    torch.testing.assert_close(fusion(u, v), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-10)


@each_name
@given(pair=embedding_pairs())
def test_xnor_learnability_is_as_theory_says(name, pair):
    """ "always" separates every a ≠ b, "never" none, "generic" all but the special positions that theory names."""
    a, b = pair
    oracle = ORACLES[name]
    fusion = oracle.trained(a, b) if oracle.trained else pf.make_fusion(name, len(a))
    learnable = oracle.learns_xnor(exact(a), exact(b))
    assert (pf.xnor_margin(fusion, a, b) > 0) == learnable
    if fusion.xnor != "generic":
        assert learnable == (fusion.xnor == "always")


@each_name
def test_generic_means_both(name):
    """A fusion declared "generic" has pairs that it can tell apart and pairs that it cannot."""
    a = torch.tensor([1.0, 2.0])
    oracle = ORACLES[name]
    learns = [oracle.learns_xnor(exact(a), exact(x)) for x in (torch.tensor([2.0, 1.0]), oracle.special(a))]
    expected = {"never": [False, False], "generic": [True, False], "always": [True, True]}
    assert learns == expected[pf.make_fusion(name, 2).xnor]
