"""Fusions by name."""

import re

import pytest

import pairfuse as pf


def test_the_four_of_the_card_are_registered():
    assert {"abs-diff", "bilinear", "concat", "product"} <= set(pf.list_fusions())
    assert pf.list_fusions() == sorted(pf.list_fusions())


@pytest.mark.parametrize("name", ["abs-diff", "abs_diff", "Abs-Diff", " ABS_DIFF "])
def test_names_are_treated_alike(name):
    assert isinstance(pf.make_fusion(name, 3), pf.fusions.AbsDiff)


def test_options_reach_the_class():
    fusion = pf.make_fusion("bilinear", 64, out_features=16, symmetric=True)
    assert repr(fusion) == "Bilinear(in_features=64, out_features=16, symmetric=True, bias=True)"


def test_unknown_options_are_said_of_the_name():
    words = r"fusion 'product': got an unexpected keyword argument 'rank'; its signature is Product\(in_features"
    with pytest.raises(TypeError, match=words):
        pf.make_fusion("product", 4, rank=3)
    with pytest.raises(TypeError, match="make_fusion expects a name, or a list with no options but in2_features"):
        pf.make_fusion(["product"], 4, rank=3)


def test_every_call_makes_a_new_module():
    assert pf.make_fusion("bilinear", 4) is not pf.make_fusion("bilinear", 4)


def test_unknown_name_lists_the_names_and_the_nearest():
    names = ", ".join(pf.list_fusions())
    with pytest.raises(
        ValueError, match=re.escape(f"unknown fusion 'prodct': did you mean 'product'? The names are: {names}")
    ):
        pf.make_fusion("prodct", 4)
    with pytest.raises(ValueError, match="unknown fusion 'zzz': The names are"):
        pf.make_fusion("zzz", 4)
    for wrong in (3, pf.fusions.Product):
        with pytest.raises(TypeError, match="or a list of either, got"):
            pf.make_fusion(wrong, 4)


def test_register_and_make(registry_restored):
    @pf.register_fusion("My_Fusion")
    class Mine(pf.fusions.Product):
        pass

    assert "my-fusion" in pf.list_fusions()
    assert isinstance(pf.make_fusion("my-fusion", 4), Mine)


@pytest.mark.parametrize("name", ["product", "PRODUCT", "abs_diff"])
def test_a_taken_name(name):
    with pytest.raises(ValueError, match=r"already registered as '(product|abs-diff)' \((Product|AbsDiff)\)"):
        pf.register_fusion(name)(pf.fusions.Bilinear)


def test_register_again(registry_restored):
    """A notebook cell that is run again replaces its own class, and no other."""

    def run_cell():
        @pf.register_fusion("cell")
        class Mine(pf.fusions.Product):
            pass

        return Mine

    first, second = run_cell(), run_cell()
    assert first is not second
    assert type(pf.make_fusion("cell", 4)) is second


@pytest.mark.parametrize("name", [3, "", " ", pf.fusions.Product])
def test_a_name_is_a_name(name):
    """Also where the parentheses of the decorator were forgotten."""
    with pytest.raises(TypeError, match=r'register_fusion expects a name, as in @register_fusion\("my-fusion"\), got'):
        pf.register_fusion(name)


@pytest.mark.parametrize("thing", [object, pf.fusions.Product(3), lambda u, v: u * v])
def test_only_fusions_can_be_registered(thing, registry_restored):
    with pytest.raises(TypeError, match=r"register_fusion expects a subclass of pairfuse\.Fusion, got"):
        pf.register_fusion("thing")(thing)
