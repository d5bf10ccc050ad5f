"""`xnor_certificate` and `class_certificate`: answers that prove themselves."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_program import separable_by_linear_program, widest_gap
from oracles import ORACLES, exact

import pairfuse as pf
from pairfuse.testing.strategies import embedding_pairs, vectors
from pairfuse.xnor import Certificate, class_certificate, xnor_certificate
from pairfuse.xnor._features import power_of_two
from pairfuse.xnor.certificate import _separates, prove_common_point, prove_separable
from pairfuse.xnor.pair import closest_exactly
from pairfuse.xnor.segments import between, segment_distance

each_name = pytest.mark.parametrize("name", pf.list_fusions())


def all_pairs(fusion, left, right=None):
    """The features of all pairs, `(n, n, F)`."""
    right = left if right is None else right
    n = len(left)
    fused = fusion.double()(left.double()[:, None].expand(n, n, -1), right.double()[None].expand(n, n, -1))
    return fused.detach()


def assert_proves_itself(certificate, features, is_same):
    """Checked here from scratch: the signs of all logits, or the common point."""
    if certificate.separable:
        logits = features @ certificate.weight + certificate.bias
        assert torch.equal(logits > 0, is_same)
        assert logits.abs().min() > 0
        gap = logits[is_same].min() - logits[~is_same].max()
        torch.testing.assert_close(gap.item(), certificate.margin, rtol=1e-9, atol=1e-12)
        assert certificate.same is None
        assert certificate.different is None
    else:
        assert certificate.margin == 0
        assert certificate.weight is None
        assert certificate.bias is None
        points = []
        for shares, mask in ((certificate.same, is_same), (certificate.different, ~is_same)):
            assert (shares >= 0).all()
            assert (shares[~mask] == 0).all()
            assert shares.sum().item() == pytest.approx(1)
            points.append(torch.einsum("ij,ijf->f", shares, features))
        torch.testing.assert_close(*points, rtol=0, atol=1e-9 * max(1, features.abs().max().item()))


@each_name
@settings(max_examples=20)
@given(pair=embedding_pairs())
def test_every_certificate_of_a_pair_proves_itself(name, pair):
    """It says what the margin, the linear program and, for trained weights, theory say."""
    a, b = pair
    oracle = ORACLES[name]
    fusion = oracle.trained(a, b) if oracle.trained else pf.make_fusion(name, len(a)).double()
    certificate = xnor_certificate(fusion, a, b)
    features = all_pairs(fusion, torch.stack([a, b]))
    assert_proves_itself(certificate, features, torch.eye(2, dtype=torch.bool))
    torch.testing.assert_close(certificate.margin, pf.xnor_margin(fusion, a, b).item(), rtol=1e-6, atol=1e-12)
    assert certificate.separable == oracle.learns_xnor(exact(a), exact(b))
    points = features.numpy()
    same, different = np.stack([points[0, 0], points[1, 1]]), np.stack([points[0, 1], points[1, 0]])
    assert certificate.separable == separable_by_linear_program(same, different)


def test_the_parameters_of_the_common_point():
    """s and t stand where the docstring says: product of collinear embeddings, b = 3 a."""
    a = torch.tensor([1.0, 2.0])
    certificate = xnor_certificate("product", a, 3 * a)
    s = certificate.same[1, 1].item()
    assert s == pytest.approx(1 / 4)  # (1 − s) a² + s 9 a² = 3 a²
    assert certificate.same[0, 0].item() == pytest.approx(3 / 4)
    assert str(certificate) == "not separable: 0.75 f(a, a) + 0.25 f(b, b) = 1 f(a, b)"


def test_equal_embeddings_have_a_common_point():
    a = torch.randn(3)
    assert not xnor_certificate("abs-diff", a, a).separable


def test_a_trained_fusion_and_its_random_state_are_left_alone():
    fusion = pf.fusions.Bilinear(3, 2)
    state, mode = torch.get_rng_state(), fusion.training
    xnor_certificate(fusion, torch.randn(3, generator=torch.Generator()), torch.zeros(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert fusion.training == mode
    assert fusion.weight.grad is None
    assert fusion.weight.dtype == torch.float32


def test_a_proof_that_does_not_hold_is_never_handed_out():
    features = torch.tensor([[[0.0], [1e-7]], [[1e-7], [2e-7]]], dtype=torch.float64)
    is_same = torch.eye(2, dtype=torch.bool)
    assert prove_separable(features, is_same, torch.ones(1, dtype=torch.float64)) is None
    same = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    different = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    assert prove_common_point(features, same, different, tolerance=1e-9) is None
    assert prove_common_point(features, same, different, tolerance=1e-6).error == 1e-7


def test_signs_are_proved_in_exact_arithmetic():
    """In floats the logit of the last pair is 0; in fractions it is −2⁻⁶⁰, and on the wrong side."""
    big, tiny = 1.0, 2.0**-60
    features = torch.tensor([[[big, tiny], [-big, 0.0]], [[-big, 0.0], [big, -tiny]]], dtype=torch.float64)
    weight, bias = torch.tensor([1.0, 1.0]).double(), torch.tensor(-1.0).double()
    assert not _separates(features, torch.eye(2, dtype=torch.bool), weight, bias)
    features[1, 1, 1] = tiny
    assert _separates(features, torch.eye(2, dtype=torch.bool), weight, bias)


def test_a_head_that_separates_by_rounding_only_is_refused():
    """The logit of the different pairs is 1 in fractions, above the 0.5 of the same ones; in floats it is 0."""
    same, weight = [0.5, 0.0, 0.0], torch.ones(3, dtype=torch.float64)
    orders = itertools.permutations([2.0**53, 1.0, -(2.0**53)])  # in one of them this machine loses the 1
    cases = (torch.tensor([[same, list(o)], [list(o), same]], dtype=torch.float64) for o in orders)
    features = next(features for features in cases if (features @ weight)[0, 1] < 0.5)
    assert prove_separable(features, torch.eye(2, dtype=torch.bool), weight) is None


def test_scaling_a_certificate_scales_its_lengths():
    scaled = Certificate(1.0, weight=torch.ones(1), bias=torch.tensor(2.0), error=0.5).scaled(torch.tensor(8.0))
    assert (scaled.margin, scaled.bias.item(), scaled.error, scaled.weight.item()) == (8.0, 16.0, 4.0, 1.0)


def test_two_collinear_classes_among_others_have_their_common_point():
    """Product: a, 3 a and another one. The point is that of the two, to the last digit."""
    a = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    certificate = class_certificate("product", torch.stack([a, 3 * a, torch.ones(3)]), [0, 1, 2])
    assert str(certificate) == "not separable: 0.75 f(a, a) + 0.25 f(b, b) = 1 f(a, b)"
    assert certificate.error == 0


@pytest.mark.parametrize("name", ["concat", "sum", "mean", "diff"])
def test_sums_have_a_common_point_to_the_last_digits(name):
    """On collinear float32 embeddings, where a solver's tolerance is wider than what there is to see."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        embeddings = torch.randn(6, 1, generator=generator) * torch.randn(1, 8, generator=generator)
        certificate = class_certificate(name, embeddings, torch.arange(6) % 3)
        assert not certificate.separable
        assert certificate.error < 1e-14 * embeddings.abs().max() * 4


def test_a_gap_narrower_than_a_solvers_tolerance_is_found():
    """Cosine of two directions that differ by 1e-5: 5e-11 below 1."""
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 1e-5]], dtype=torch.float64)
    certificate = class_certificate("cosine", embeddings, [0, 1])
    assert certificate.margin == pytest.approx(5e-11, rel=1e-3)


@pytest.mark.parametrize("name", ["abs-diff", "symmetric", "infersent", "cosine", "ntn"])
def test_the_gap_of_classes_is_the_widest(name):
    """As an independent program finds it, over all heads with weights in [−1, 1]."""
    for seed in range(5):
        torch.manual_seed(seed)
        fusion, embeddings, classes = pf.make_fusion(name, 3), torch.randn(5, 3), torch.arange(5) % 3
        certificate = class_certificate(fusion, embeddings, classes)
        is_same, points = (classes[:, None] == classes).numpy(), all_pairs(fusion, embeddings).numpy()
        assert certificate.margin == pytest.approx(widest_gap(points[is_same], points[~is_same]), rel=1e-6, abs=1e-8)


OFFSETS = [0.0, 10.0, 1e3, 1e5, 1e6]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", ["product", "symmetric", "mou", "bilinear"])
def test_a_common_offset_costs_no_proof(name, offset):
    """Integers, so that the features are exact: margin and certificate agree, however small the margin beside them."""
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        a, b = (torch.randint(-9, 10, (2,), generator=generator) + offset for _ in range(2))
        fusion = pf.make_fusion(name, 2).double()
        certificate, margin = xnor_certificate(fusion, a, b), pf.xnor_margin(fusion, a.double(), b.double()).item()
        assert certificate.separable == (margin > 0)
        assert certificate.margin == pytest.approx(margin, rel=1e-5)


@pytest.mark.parametrize("stretch", [1e-3, 1e-8, 1e-12])
def test_nearly_collinear_embeddings(stretch):
    """The product tells them apart by a margin of their own tiny size, for two and as classes."""
    a = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    b = 2 * a + torch.tensor([0.0, stretch, 0.0], dtype=torch.float64)
    certificate = xnor_certificate("product", a, b)
    assert certificate.margin == pytest.approx(pf.xnor_margin("product", a, b).item(), rel=1e-3)
    assert 0 < certificate.margin < 2 * stretch
    if stretch >= 1e-8:
        assert class_certificate("product", torch.stack([a, b]), [0, 1]).separable


@given(data=st.data())
def test_closest_points_in_fractions_are_those_in_floats(data):
    width = data.draw(st.integers(1, 3))
    points = [data.draw(vectors(width)) for _ in range(4)]
    s, t, apart = closest_exactly(*(point.tolist() for point in points))
    assert 0 <= s <= 1
    assert 0 <= t <= 1
    s, t = torch.tensor(s).double(), torch.tensor(t).double()
    torch.testing.assert_close(between(*points, s, t), apart, rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(segment_distance(*points), apart.norm(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("name", pf.list_fusions())
def test_ordinary_data_always_gets_an_answer(name, offset):
    """Three classes of two, with and without an offset: no ArithmeticError for any of 10 seeds."""
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        centers = 5 * torch.randn(3, 4, generator=generator)
        embeddings = centers.repeat(2, 1) + torch.randn(6, 4, generator=generator) + offset
        fusion, classes = pf.make_fusion(name, 4), torch.arange(6) % 3
        certificate = class_certificate(fusion, embeddings, classes)
        assert certificate.error <= 1e-9 * max(1.0, all_pairs(fusion, embeddings).abs().max().item())


@given(data=st.data(), name=st.sampled_from(["concat", "product", "abs-diff", "max", "cosine", "mou", "symmetric"]))
def test_every_certificate_of_classes_proves_itself(data, name):
    """Three to five embeddings, two classes or more, some of the same class: as the linear program says."""
    n, width = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 3))
    embeddings = data.draw(vectors(n, width))
    classes = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    classes[0], classes[1] = 0, 1
    fusion = pf.make_fusion(name, width)
    certificate = class_certificate(fusion, embeddings, classes)
    features, is_same = all_pairs(fusion, embeddings), classes[:, None] == classes
    assert_proves_itself(certificate, features, is_same)
    points = features.numpy()
    assert certificate.separable == separable_by_linear_program(points[is_same], points[~is_same])


@given(pair=embedding_pairs(), name=st.sampled_from(pf.list_fusions()))
def test_two_embeddings_are_separable_jointly_iff_they_are_as_a_pair(pair, name):
    """And the gap in the 1-norm is at least the Euclidean one, at most √F times it."""
    a, b = pair
    oracle = ORACLES[name]
    fusion = oracle.trained(a, b) if oracle.trained else pf.make_fusion(name, len(a))
    margin = class_certificate(fusion, torch.stack([a, b]), torch.arange(2)).margin
    euclidean = pf.xnor_margin(fusion, a, b).item()
    assert (margin > 0) == (euclidean > 0)
    assert euclidean * (1 - 1e-6) <= margin <= euclidean * fusion.out_features**0.5 * (1 + 1e-6)


def test_two_at_a_time_is_less_than_jointly():
    """Product on (1, 0), (½, ½), (0, 1); L2-normalized, the same directions are fine."""
    embeddings, classes = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), torch.arange(3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert pf.xnor_margin("product", embeddings[i], embeddings[j]) > 0
    assert not class_certificate("product", embeddings, classes).separable
    unit = torch.nn.functional.normalize(embeddings)
    assert class_certificate("product", unit, classes).separable


@pytest.mark.parametrize("name", ["abs-diff", "squared-diff", "cosine"])
def test_distances_and_cosine_tell_any_number_of_classes(name):
    embeddings = torch.randn(12, 3)
    assert class_certificate(name, embeddings, torch.arange(12)).separable


@pytest.mark.parametrize(("width", "share"), [(4, 0.0), (8, 1 / 3), (32, 1.0)])
def test_product_on_random_embeddings_of_ten_classes(width, share):
    """In 0 % of the draws at D = 4, a third at D = 8, all at D = 32."""
    answers = [class_certificate("product", torch.randn(10, width), torch.arange(10)).separable for _ in range(30)]
    assert sum(answers) / 30 == pytest.approx(share, abs=0.25 if 0 < share < 1 else 0)


def test_two_encoders():
    """What separates tied embeddings need not separate untied ones: there |u − v| may be a signed difference."""
    left, classes = torch.rand(4, 3) + 10, torch.arange(4)
    right = torch.rand(4, 3)
    assert class_certificate("abs-diff", left, classes).separable
    certificate = class_certificate("abs-diff", left, classes, right_embeddings=right)
    assert not certificate.separable
    features = all_pairs(pf.fusions.AbsDiff(3), left, right)
    assert_proves_itself(certificate, features, torch.eye(4, dtype=torch.bool))
    for seed in range(20):  # as an independent program says, of all ordered pairs, not of one triangle
        generator = torch.Generator().manual_seed(seed)
        u, v = torch.randn(2, 3, 2, generator=generator)
        separable = class_certificate("product", u, torch.arange(3), right_embeddings=v).separable
        points, is_same = all_pairs(pf.fusions.Product(2), u, v).numpy(), np.eye(3, dtype=bool)
        assert separable == separable_by_linear_program(points[is_same], points[~is_same])
    fusion, right = pf.fusions.Bilinear(3, 12, in2_features=2).double(), torch.randn(4, 2)
    certificate = class_certificate(fusion, left, classes, right_embeddings=right)
    assert_proves_itself(certificate, all_pairs(fusion, left, right), torch.eye(4, dtype=torch.bool))


def test_classes_may_be_a_list():
    embeddings = torch.tensor([[0.0], [1.0], [3.0]])
    assert class_certificate("abs-diff", embeddings, [0, 1, 2]).margin == 1
    assert class_certificate("abs-diff", embeddings, [0, 0, 1]).margin == 1  # |0 − 1| same, |1 − 3| different
    assert not class_certificate("abs-diff", embeddings, [0, 1, 0]).separable  # |0 − 3| same, |0 − 1| different


@pytest.mark.parametrize("scale", [1e-60, 1.0, 1e60])
def test_any_scale(scale):
    embeddings = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64) * scale
    assert class_certificate("abs-diff", embeddings, torch.arange(3)).margin == pytest.approx(scale)
    assert xnor_certificate("abs-diff", *embeddings[:2]).margin == pytest.approx(scale * 0.5**0.5)


def test_certificates_print_well():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    words = "separable, margin 0.7071: weight [0.7071, 0.7071], bias -0.3536"
    assert str(xnor_certificate("product", a, b)) == words
    wide = str(xnor_certificate("product", torch.randn(20), torch.randn(20)))
    assert re.search(r"weight \[(-?[\d.e-]+, ){8}\.\.\.\]", wide)


def test_print_of_many_items_names_them():
    """By letters, then by numbers; a long mixture is cut off."""
    shares = torch.zeros(30, 30, dtype=torch.float64)
    shares[0, 1], shares[29, 25] = 0.25, 0.75
    assert str(Certificate(0.0, same=shares, different=shares)) == (
        "not separable: 0.25 f(a, b) + 0.75 f(#29, z) = 0.25 f(a, b) + 0.75 f(#29, z)"
    )
    many = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    assert str(Certificate(0.0, same=many, different=many)).count("f(") == 12
    assert " + ..." in str(Certificate(0.0, same=many, different=many))


def test_features_are_scaled_without_rounding():
    """By a power of two, so that a proof of the scaled features is one of the features."""
    sizes = torch.tensor([3.0, 0.0, 4.0, 1e-200, 1e200], dtype=torch.float64)
    scales = power_of_two(sizes)
    assert scales[:3].tolist() == [4.0, 1.0, 8.0]
    assert (torch.frexp(scales).mantissa == 0.5).all()
    assert torch.equal(sizes / scales * scales, sizes)
