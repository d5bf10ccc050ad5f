"""The declared facts: their values, how they contradict each other, how they print."""

import dataclasses

import pytest
import torch

import pairfuse as pf


def declare(**facts):
    return type("Mine", (pf.Fusion,), {"fuse": lambda self, u, v: u * v, **facts})


FACTS = {"symmetry": "symmetric", "additive": False, "xnor": "generic"}


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_must_be_declared(fact):
    facts = {name: value for name, value in FACTS.items() if name != fact}
    with pytest.raises(TypeError, match=rf"Mine must declare `{fact}` as one of .* \(got None\)"):
        declare(**facts)(3)


@pytest.mark.parametrize(("fact", "value"), [("symmetry", "yes"), ("additive", "no"), ("xnor", True)])
def test_a_fact_has_one_of_its_values(fact, value):
    with pytest.raises(TypeError, match=rf"Mine must declare `{fact}` as one of"):
        declare(**{**FACTS, fact: value})(3)


@pytest.mark.parametrize("value", ["sometimes", True, 1])
def test_xnor_with_sum_has_one_of_its_values(value):
    with pytest.raises(TypeError, match="Mine must declare `xnor_with_sum` as one of"):
        declare(**FACTS, xnor_with_sum=value)(3)


def test_facts_must_not_contradict_each_other():
    with pytest.raises(TypeError, match="Mine declares additive=True, so `xnor` must be 'never'"):
        declare(symmetry="none", additive=True, xnor="always")(3)
    with pytest.raises(TypeError, match="Mine declares additive=True, so `xnor_with_sum` must be 'never'"):
        declare(symmetry="none", additive=True, xnor="never", xnor_with_sum="generic")(3)
    with pytest.raises(TypeError, match="Mine declares xnor='generic', so `xnor_with_sum` cannot be less"):
        declare(**FACTS, xnor_with_sum="never")(3)


@pytest.mark.parametrize("fact", ["xnor", "xnor_with_sum"])
def test_antisymmetric_fusions_cannot_learn_xnor(fact):
    """f(a, a) = f(b, b) = 0 is half-way between f(a, b) and f(b, a)."""
    facts = {"xnor": "never", fact: "always"}
    with pytest.raises(TypeError, match=f"Mine declares antisymmetry, so `{fact}` must be 'never'"):
        declare(symmetry="antisymmetric", additive=False, **facts)(3)


@pytest.mark.parametrize("feature_means", [2.0, (1.0,), (0.0, float("inf")), (float("nan"), 0.0)])
def test_feature_means_are_two_finite_numbers(feature_means):
    with pytest.raises(TypeError, match="Mine must declare `feature_means` as a tuple of two finite numbers"):
        declare(**FACTS, feature_means=feature_means)(3)


@pytest.mark.parametrize("name", pf.list_fusions())
def test_facts_are_what_the_fusion_declares(name):
    """Nothing is typed twice: every field is read off the fusion."""
    fusion = pf.make_fusion(name, 6)
    facts = dataclasses.asdict(fusion.facts())
    assert facts.pop("fusion") == type(fusion).__name__
    assert facts.pop("parameters") == sum(parameter.numel() for parameter in fusion.parameters())
    assert facts == {field: getattr(fusion, field) for field in facts}


def test_facts_that_an_instance_sets_are_checked():
    """By facts(), and so by the comparator and the conformance suite."""

    class Skewed(pf.fusions.Product):
        def __init__(self, in_features):
            super().__init__(in_features)
            self.symmetry = "skew"

    with pytest.raises(TypeError, match="Skewed must declare `symmetry` as one of"):
        Skewed(3).facts()
    with pytest.raises(TypeError, match="Skewed must declare `symmetry` as one of"):
        pf.SiameseComparator(torch.nn.Linear(3, 3), Skewed(3))


def test_facts_are_frozen_and_of_the_instance():
    facts = pf.fusions.Bilinear(4, symmetric=True).facts()
    assert facts.symmetry == "symmetric"
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.symmetry = "none"
    assert pf.fusions.Bilinear(4, symmetric=True).facts() == facts
    assert pf.fusions.Bilinear(4).facts() != facts


def test_facts_print_as_a_table():
    lines = str(pf.make_fusion("concat", 64).facts()).splitlines()
    assert lines[0] == "fusion        Concat"
    assert "out_features  128" in lines
    assert "additive      yes" in lines
    assert "xnor          never" in lines
