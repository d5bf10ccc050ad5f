"""`xnor_margin`: exact, differentiable, batched."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import exact, segments_meet

import pairfuse as pf
from pairfuse.testing.strategies import GRID, embedding_pairs
from pairfuse.xnor.segments import segment_distance


def integer_bilinear(width: int, out_features: int, weights: list[float]) -> pf.fusions.Bilinear:
    fusion = pf.fusions.Bilinear(width, out_features, bias=False, dtype=torch.float64)
    with torch.no_grad():
        fusion.weight.copy_(torch.tensor(weights).view_as(fusion.weight))
    return fusion


@given(data=st.data())
def test_segments_meet_iff_exact_arithmetic_says_so(data):
    """The closed form and Gaussian elimination over fractions agree on segments in free and special positions."""
    width = data.draw(st.integers(1, 3))
    small = st.integers(-3, 3).map(float)
    points = [data.draw(st.lists(small, min_size=width, max_size=width)) for _ in range(4)]
    distance = segment_distance(*(torch.tensor(point).double() for point in points))
    meet = segments_meet(*([Fraction(x) for x in point] for point in points))
    assert (distance < 1e-12) == meet


@given(data=st.data())
def test_no_two_points_of_the_segments_are_closer(data):
    """The distance is that of the closest of 101 × 101 points, up to the grid."""
    width = data.draw(st.integers(1, 3))
    small = st.integers(-3, 3).map(float)
    points = [data.draw(st.lists(small, min_size=width, max_size=width)) for _ in range(4)]
    p1, p2, q1, q2 = (torch.tensor(point).double() for point in points)
    share = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    nearest = torch.cdist(p1 + share * (p2 - p1), q1 + share * (q2 - q1)).min()
    distance = segment_distance(p1, p2, q1, q2)
    assert distance <= nearest + 1e-12
    assert distance >= nearest - 0.11  # half a step of each segment, at most √3 · 6 / 200


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6])
def test_almost_parallel_segments_that_meet(angle):
    """Rounding is repaired: two long segments that cross at a tiny angle have distance 0 to the last place."""
    p = torch.tensor([math.cos(0.3), math.sin(0.3), 0.5]).double()
    q = p + angle * torch.tensor([0.2, -0.4, 0.9]).double()
    center = torch.tensor([0.1, 0.7, -0.3]).double()
    assert segment_distance(center - 0.6 * p, center + 0.4 * p, center - 0.3 * q, center + 0.7 * q) < 1e-15


class NearlyOneSided(pf.Fusion):
    """Additive: u beside a small multiple of v, so that the two segments are almost parallel."""

    symmetry, additive, xnor = "none", True, "never"

    def __init__(self, in_features, factor):
        super().__init__(in_features)
        self.out_features, self.factor = 2 * in_features, factor

    def fuse(self, u, v):
        return torch.cat([u, self.factor * v], -1)


@pytest.mark.parametrize("factor", [1, 1e-2, 1e-5, 1e-8, 1e-12])
def test_almost_parallel_segments_of_an_additive_fusion(factor):
    a, b = torch.randn(500, 16).double(), torch.randn(500, 16).double()
    assert (pf.xnor_margin(NearlyOneSided(16, factor), a, b) == 0).all()


def test_random_bilinear_forms_agree_with_exact_arithmetic():
    """One form is a line, on which two random segments often overlap: 0.0 iff they do."""
    fusion = pf.fusions.Bilinear(3, 1, dtype=torch.float64).requires_grad_(False)
    a, b = torch.randn(300, 3).double(), torch.randn(300, 3).double()
    points = [exact(fusion(x, y)) for x, y in ((a, a), (b, b), (a, b), (b, a))]
    meet = torch.tensor([segments_meet(*four) for four in zip(*points, strict=True)])
    assert torch.equal(pf.xnor_margin(fusion, a, b) == 0, meet)
    assert 0 < meet.sum() < 300


def test_eval_mode_and_no_trace():
    """Dropout would make a margin out of nothing, and BatchNorm would count the call."""

    class Noisy(pf.fusions.Concat):
        symmetry, additive, xnor = "none", True, "never"

        def __init__(self, in_features):
            super().__init__(in_features)
            self.layers = torch.nn.Sequential(torch.nn.BatchNorm1d(2 * in_features), torch.nn.Dropout())

        def fuse(self, u, v):
            return self.layers(super().fuse(u, v))

    fusion = Noisy(3)
    assert (pf.xnor_margin(fusion, torch.randn(20, 3), torch.randn(20, 3)) == 0).all()
    assert fusion.layers[0].num_batches_tracked == 0
    assert fusion.training
    assert fusion.layers[1].training


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_embeddings_must_be_floats(dtype):
    """The margin of (1, 0) and (0, 1) is 0.7, which no integer holds."""
    a, b = torch.tensor([1, 0]).to(dtype), torch.tensor([0, 1]).to(dtype)
    with pytest.raises(TypeError, match="Product expects floating-point embeddings"):
        pf.xnor_margin(pf.fusions.Product(2), a, b)


@pytest.mark.parametrize("spec", ["product", ["product", "abs-diff"], ("concat", pf.fusions.Product(3))])
def test_a_name_or_a_list_works_wherever_a_fusion_does(spec):
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(pf.xnor_margin(spec, a, b), pf.xnor_margin(pf.make_fusion(spec, 3), a, b))


@pytest.mark.parametrize("spec", [None, 3, pf.fusions.Product, torch.nn.Linear(3, 3)])
def test_what_is_no_fusion(spec):
    with pytest.raises(TypeError, match=r"fusion must be a pairfuse\.Fusion, a registered name, or a list of either"):
        pf.xnor_margin(spec, torch.randn(3), torch.randn(3))


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_relative_margin_has_no_scale(scale):
    """It is in [0, 1], and twice the largest norm times it is the margin."""
    a, b = torch.randn(50, 4).double(), torch.randn(50, 4).double()
    fusion = pf.fusions.Product(4)
    relative = pf.xnor_margin(fusion, scale * a, scale * b, relative=True)
    torch.testing.assert_close(relative, pf.xnor_margin(fusion, a, b, relative=True))
    largest = torch.stack([(x * y).norm(dim=-1) for x, y in ((a, a), (b, b), (a, b))]).amax(0)
    torch.testing.assert_close(pf.xnor_margin(fusion, a, b), relative * 2 * largest)
    assert (relative <= 1).all()


def test_relative_margin_reaches_its_ends():
    """Cosine of opposite vectors: features 1 and −1, as far apart as such features can be."""
    a = torch.tensor([1.0, 2.0])
    assert pf.xnor_margin("cosine", a, -a, relative=True) == 1
    assert pf.xnor_margin("concat", a, -a, relative=True) == 0
    assert pf.xnor_margin("abs-diff", a, a, relative=True) == 0


def test_a_common_offset_ruins_the_relative_margin():
    """Cosines of 0.6, 0.98, 0.996: the margin falls with the square of the offset; centered, all are alike."""
    margins = []
    for offset in (2.0, 10.0, 22.3):
        a, b = torch.tensor([offset + 1, offset - 1]), torch.tensor([offset - 1, offset + 1])
        margins.append(pf.xnor_margin("product", a, b, relative=True).item())
        assert pf.xnor_margin("product", a - offset, b - offset, relative=True) == pytest.approx(1.0)
    assert margins == pytest.approx([0.156, 0.0097, 0.002], rel=0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_have_no_margin(value):
    """NaN, not a number that looks like an answer; the other rows keep theirs."""
    a, b = torch.randn(3, 2), torch.randn(3, 2)
    a[1, 0] = value
    margin = pf.xnor_margin("product", a, b)
    assert margin.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-120, 1e-30, 1e30, 1e120])
def test_any_scale(scale):
    """The scale of the embeddings neither makes a margin nor loses one."""
    a, b = torch.tensor([1.0, -0.3]).double() * scale, torch.tensor([0.7, 2.0]).double() * scale
    product = pf.fusions.Product(2)
    assert pf.xnor_margin(product, a, 3 * a) == 0
    torch.testing.assert_close(pf.xnor_margin(product, a, b) / scale**2, pf.xnor_margin(product, a / scale, b / scale))


def test_what_float32_cannot_resolve_is_computed_in_float64():
    """A small difference beside a large common coordinate, with the embeddings in float32."""
    a, b = torch.tensor([1000.0, 0.001]), torch.tensor([1000.0, -0.001])
    assert pf.xnor_margin(pf.fusions.Product(2), a, b).item() == pytest.approx(2e-6, rel=1e-3)


@given(pair=embedding_pairs(most_width=2), data=st.data())
def test_zero_iff_the_exact_segments_meet(pair, data):
    """For asymmetric features, where both segments have length: 0.0 iff they meet in exact arithmetic."""
    a, b = pair
    count = data.draw(st.integers(1, 3))
    weights = data.draw(st.lists(GRID, min_size=count * len(a) ** 2, max_size=count * len(a) ** 2))
    fusion = integer_bilinear(len(a), count, weights)
    points = [exact(fusion(x, y).detach()) for x, y in ((a, a), (b, b), (a, b), (b, a))]
    assert (pf.xnor_margin(fusion, a, b) == 0) == segments_meet(*points)


@given(pair=embedding_pairs())
def test_a_positive_margin_is_a_separating_head(pair):
    """The line between the closest points is a linear head that separates by exactly the margin."""
    a, b = pair
    fusion = pf.fusions.Stack([pf.fusions.Product(len(a)), pf.fusions.AbsDiff(len(a))])
    margin = pf.xnor_margin(fusion, a, b)
    same = torch.stack([fusion(a, a), fusion(b, b)])
    different = fusion(a, b)  # symmetric: (b, a) is the same point
    share = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    nearest = (share * same[0] + (1 - share) * same[1] - different).norm(dim=1).min()
    torch.testing.assert_close(margin, nearest, rtol=1e-3, atol=1e-3)
    assert margin > 0


@pytest.mark.parametrize("name", ["product", "abs-diff", "bilinear"])
def test_is_differentiable(name):
    """The gradient, in the embeddings and the parameters, agrees with finite differences."""
    fusion = pf.make_fusion(name, 3).double()
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    positive = pf.xnor_margin(fusion, a, b) > 0.05  # away from the kink at 0
    assert positive.any()
    a, b = a[positive].detach().requires_grad_(), b[positive].detach().requires_grad_()
    torch.autograd.gradcheck(lambda a, b, *_: pf.xnor_margin(fusion, a, b), (a, b, *fusion.parameters()))


def test_gradient_is_finite_where_nothing_can_be_told():
    """At margin 0 the gradient is 0, not NaN."""
    a, b = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    margin = pf.xnor_margin(pf.fusions.Concat(3), a, b)
    margin.sum().backward()
    assert (margin == 0).all()
    assert (a.grad == 0).all()


def test_leading_dimensions_and_dtype():
    """(..., D) gives (...), in the dtype of a, row by row."""
    fusion = pf.fusions.AbsDiff(4)
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    margin = pf.xnor_margin(fusion, a, b)
    assert margin.shape == (2, 3)
    assert margin.dtype == torch.float32
    torch.testing.assert_close(margin, (a - b).norm(dim=-1))
    assert pf.xnor_margin(fusion, a[0, 0], b[0, 0]).shape == ()
    assert pf.xnor_margin(fusion, a[:, :0], b[:, :0]).shape == (2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["concat", "product"])
def test_real_embeddings_that_cannot_be_told_apart_have_margin_zero(name, dtype):
    """Rounding never makes a margin out of nothing: the fusion is computed in float64."""
    a = torch.rand(200, 7).to(dtype)
    b = a * 2 if name == "product" else torch.rand(200, 7).to(dtype)
    assert (pf.xnor_margin(pf.make_fusion(name, 7), a, b) == 0).all()


def test_equal_embeddings_have_margin_zero():
    """Where a equals b there is nothing to tell apart."""
    a = torch.randn(3, 4)
    assert (pf.xnor_margin(pf.fusions.AbsDiff(4), a, a) == 0).all()


def test_leaves_the_fusion_as_it_was():
    """Parameters keep their dtype and get no gradient unless one is asked for."""
    fusion = pf.fusions.Bilinear(3, 2)
    pf.xnor_margin(fusion, torch.randn(3), torch.randn(3))
    assert fusion.weight.dtype == torch.float32
    assert fusion.weight.grad is None


def test_two_widths_are_refused():
    """(a, a) makes no sense where the two sides differ in width."""
    with pytest.raises(ValueError, match=r"one encoder, but Concat has in_features=3 and in2_features=2"):
        pf.xnor_margin(pf.fusions.Concat(3, in2_features=2), torch.randn(3), torch.randn(3))
    with pytest.raises(ValueError, match=r"Product expects u of shape \(\.\.\., 4\)"):
        pf.xnor_margin(pf.fusions.Product(4), torch.randn(3), torch.randn(3))
