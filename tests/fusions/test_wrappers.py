"""`Symmetrized` and `PowerNormalized`: what they change of a fusion and its facts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pairfuse as pf
from pairfuse.fusions import (
    MFB,
    NTN,
    AbsDiff,
    Bilinear,
    Concat,
    Diff,
    PowerNormalized,
    Product,
    Stack,
    Sum,
    Symmetrized,
)
from pairfuse.testing.strategies import vectors


def test_symmetrized_is_the_average_of_both_orders():
    fusion, (u, v) = NTN(3), torch.randn(2, 5, 3)
    torch.testing.assert_close(Symmetrized(fusion)(u, v), (fusion(u, v) + fusion(v, u)) / 2)
    assert torch.equal(Symmetrized(fusion)(u, v), Symmetrized(fusion)(v, u))


@pytest.mark.parametrize(
    ("fusion", "additive", "xnor", "spans_sum"),
    [
        (Concat(2), True, "never", True),
        (Bilinear(2), False, "generic", False),
        (NTN(2), False, "always", False),
        (Stack([Concat(2), Product(2)]), False, "always", True),
        (Stack([Concat(2), Diff(2)]), True, "never", True),
    ],
)
def test_facts_of_symmetrized(fusion, additive, xnor, spans_sum):
    """It makes symmetric; it does not cure additivity."""
    wrapped = Symmetrized(fusion)
    assert wrapped.symmetry == "symmetric"
    assert (wrapped.additive, wrapped.xnor, wrapped.spans_sum) == (additive, xnor, spans_sum)
    assert wrapped.fast_path == fusion.fast_path


def test_what_is_antisymmetric_and_no_sum_vanishes():
    """[u + v; (u − v)³] is no sum; averaged over both orders it is [u + v; 0], which is one."""

    class Cubed(pf.Fusion):
        symmetry, additive, xnor = "antisymmetric", False, "never"

        def fuse(self, u, v):
            return (u - v) ** 3

    stack = Stack([Sum(2), Cubed(2)])
    assert not stack.additive
    assert Symmetrized(stack).additive
    assert (Symmetrized(stack)(torch.randn(3, 2), torch.randn(3, 2))[:, 2:] == 0).all()


def test_symmetrized_has_the_parameters_of_its_fusion():
    fusion = Bilinear(3, 2)
    assert set(dict(Symmetrized(fusion).named_parameters())) == {"fusion.weight", "fusion.bias"}
    assert Symmetrized(fusion).facts().parameters == fusion.facts().parameters


def test_symmetrized_needs_a_swap():
    words = "Symmetrized swaps u and v, so it expects a fusion of one width, got Bilinear with in_features=3 and in2"
    with pytest.raises(ValueError, match=words):
        Symmetrized(Bilinear(3, in2_features=2))
    with pytest.raises(ValueError, match="Diff is antisymmetric, so the average is 0 for every pair: use"):
        Symmetrized(Diff(3))


@pytest.mark.parametrize("wrapper", [Symmetrized, PowerNormalized])
@pytest.mark.parametrize("thing", ["product", Product, torch.nn.Linear(2, 2), None])
def test_wrappers_wrap_fusions(wrapper, thing):
    with pytest.raises(TypeError, match=f"{wrapper.__name__} expects a fusion, got"):
        wrapper(thing)


@given(data=st.data())
def test_power_normalized_is_the_signed_root_of_unit_length(data):
    width = data.draw(st.integers(2, 4))
    u, v = data.draw(vectors(width)), data.draw(vectors(width))
    fused = PowerNormalized(Product(width), eps=1e-12)(u, v)
    roots = (u * v).sign() * (u * v).abs().sqrt()
    expected = roots / roots.norm() if roots.any() else roots
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_slope_at_zero_is_finite(dtype):
    """Where sign(z) √|z| has none: features that are 0, in every precision, and the norm of 0."""
    u = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    fused = PowerNormalized(AbsDiff(3), eps=1e-4 if dtype == torch.float16 else 1e-6)(u, u)
    fused.sum().backward()
    assert (fused == 0).all()
    assert u.grad.isfinite().all()


@pytest.mark.parametrize(
    ("fusion", "symmetry", "xnor"),
    [
        (Product(3), "symmetric", "generic"),
        (Diff(3), "antisymmetric", "never"),
        (MFB(3), "none", "generic"),
        (Sum(3), "symmetric", "generic"),
    ],
)
def test_facts_of_power_normalized(fusion, symmetry, xnor):
    wrapped = PowerNormalized(fusion)
    assert (wrapped.symmetry, wrapped.additive, wrapped.xnor) == (symmetry, False, xnor)
    assert not wrapped.fast_path


@pytest.mark.parametrize(("eps", "error"), [(0.0, ValueError), (-1.0, ValueError), ("x", TypeError), (True, TypeError)])
def test_eps_is_positive(eps, error):
    with pytest.raises(error, match="PowerNormalized expects eps to be"):
        PowerNormalized(Product(2), eps=eps)
    with pytest.raises(error, match="Cosine expects eps to be"):
        pf.fusions.Cosine(2, eps=eps)


def test_one_feature_is_not_normalized():
    with pytest.raises(ValueError, match="of the one feature of Cosine only the sign would be left: give it more"):
        PowerNormalized(pf.fusions.Cosine(4))


def test_what_never_learns_may_learn_when_symmetric():
    """|u − v| + 3 (u − v) has f(a, a) = 0 between f(a, b) > 0 and f(b, a) < 0; the average is |u − v|."""

    class Skewed(pf.Fusion):
        symmetry, additive, xnor = "none", False, "never"

        def fuse(self, u, v):
            return (u - v).abs() + 3 * (u - v)

    a, b = torch.tensor([1.0]), torch.tensor([2.0])
    assert pf.xnor_margin(Skewed(1), a, b) == 0
    assert pf.xnor_margin(Symmetrized(Skewed(1)), a, b) > 0
    assert Symmetrized(Skewed(1)).xnor == "generic"


def test_wrappers_nest_and_print():
    fusion = PowerNormalized(Symmetrized(Stack([MFB(3, 2), Product(3)])))
    assert fusion(torch.randn(2, 3), torch.randn(2, 3)).shape == (2, 5)
    assert "PowerNormalized(\n  eps=1e-06\n  (fusion): Symmetrized(" in repr(fusion)


def test_a_comparator_takes_a_wrapper():
    model = pf.SiameseComparator(torch.nn.Linear(5, 3), Symmetrized(NTN(3)))
    assert model.symmetric
    with pytest.raises(pf.AdditiveComparatorError, match=r"Symmetrized with an affine head computes g\(u\) \+ h\(v\)"):
        pf.SiameseComparator(torch.nn.Linear(5, 3), Symmetrized(Concat(3)))
