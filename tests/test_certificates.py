"""`xnor_certificate` and `same_different_margin`: answers that prove themselves."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from linear_program import separable_by_linear_program
from oracles import ORACLES, exact

import pairfuse as pf
from pairfuse.testing.strategies import GRID, embedding_pairs, vectors
from pairfuse.xnor import Certificate, same_different_margin, xnor_certificate
from pairfuse.xnor.certificate import certify

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


def test_too_close_to_call_is_said():
    """A proof that does not hold is never handed out."""
    features = torch.tensor([[[0.0], [1e-7]], [[1e-7], [2e-7]]], dtype=torch.float64)
    is_same = torch.eye(2, dtype=torch.bool)
    one = torch.ones(1, dtype=torch.float64)
    wrong = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), torch.tensor([[0.0, 1.0], [0.0, 0.0]]).double()
    with pytest.raises(ArithmeticError, match=r"a gap of -1.0e-07 between same and different pairs of size 1 is too"):
        certify(features, is_same, one, *wrong)


@given(data=st.data(), name=st.sampled_from(["concat", "product", "abs-diff", "max", "cosine", "mou", "symmetric"]))
def test_every_certificate_of_classes_proves_itself(data, name):
    """Three to five embeddings, two classes or more, some of the same class: as the linear program says."""
    n, width = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 3))
    embeddings = data.draw(vectors(n, width))
    classes = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    classes[0], classes[1] = 0, 1
    fusion = pf.make_fusion(name, width)
    certificate = same_different_margin(fusion, embeddings, classes)
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
    margin = same_different_margin(fusion, torch.stack([a, b]), torch.arange(2)).margin
    euclidean = pf.xnor_margin(fusion, a, b).item()
    assert (margin > 0) == (euclidean > 0)
    assert euclidean * (1 - 1e-6) <= margin <= euclidean * fusion.out_features**0.5 * (1 + 1e-6)


def test_two_at_a_time_is_less_than_jointly():
    """Product on (1, 0), (½, ½), (0, 1); L2-normalised, the same directions are fine."""
    embeddings, classes = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), torch.arange(3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert pf.xnor_margin("product", embeddings[i], embeddings[j]) > 0
    assert not same_different_margin("product", embeddings, classes).separable
    unit = torch.nn.functional.normalize(embeddings)
    assert same_different_margin("product", unit, classes).separable


@pytest.mark.parametrize("name", ["abs-diff", "squared-diff", "cosine"])
def test_distances_and_cosine_tell_any_number_of_classes(name):
    embeddings = torch.randn(12, 3)
    assert same_different_margin(name, embeddings, torch.arange(12)).separable


@pytest.mark.parametrize(("width", "share"), [(4, 0.0), (8, 1 / 3), (32, 1.0)])
def test_product_on_random_embeddings_of_ten_classes(width, share):
    """In 0 % of the draws at D = 4, a third at D = 8, all at D = 32."""
    answers = [same_different_margin("product", torch.randn(10, width), torch.arange(10)).separable for _ in range(30)]
    assert sum(answers) / 30 == pytest.approx(share, abs=0.25 if 0 < share < 1 else 0)


def test_two_encoders():
    """What separates tied embeddings need not separate untied ones: there |u − v| may be a signed difference."""
    left, classes = torch.rand(4, 3) + 10, torch.arange(4)
    right = torch.rand(4, 3)
    assert same_different_margin("abs-diff", left, classes).separable
    certificate = same_different_margin("abs-diff", left, classes, right_embeddings=right)
    assert not certificate.separable
    features = all_pairs(pf.fusions.AbsDiff(3), left, right)
    assert_proves_itself(certificate, features, torch.eye(4, dtype=torch.bool))
    two_widths = same_different_margin("bilinear", left, classes, right_embeddings=torch.randn(4, 2))
    assert isinstance(two_widths, Certificate)


def test_classes_may_be_a_list():
    certificate = same_different_margin("abs-diff", torch.randn(4, 2), [0, 1, 1, 2])
    assert not certificate.separable or certificate.margin > 0


@pytest.mark.parametrize("scale", [1e-60, 1.0, 1e60])
def test_any_scale(scale):
    embeddings = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64) * scale
    assert same_different_margin("abs-diff", embeddings, torch.arange(3)).margin == pytest.approx(scale)
    assert xnor_certificate("abs-diff", *embeddings[:2]).margin == pytest.approx(scale * 0.5**0.5)


def test_certificates_print_well():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    words = "separable, margin 0.7071: weight [0.7071, 0.7071], bias -0.3536"
    assert str(xnor_certificate("product", a, b)) == words
    wide = str(xnor_certificate("product", torch.randn(20), torch.randn(20)))
    assert re.search(r"weight \[(-?[\d.e-]+, ){8}\.\.\.\]", wide)


GOOD = torch.randn(3, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_must_be_finite(value):
    bad = GOOD.clone()
    bad[1, 0] = value
    with pytest.raises(ValueError, match="xnor_certificate expects finite b, got 1 of 2 values NaN or infinite"):
        xnor_certificate("product", bad[0], bad[1])
    with pytest.raises(ValueError, match="same_different_margin expects finite embeddings, got 1 of 6 values NaN"):
        same_different_margin("product", bad, torch.arange(3))
    with pytest.raises(ValueError, match="same_different_margin expects finite right_embeddings, got 1 of 6"):
        same_different_margin("product", GOOD, torch.arange(3), right_embeddings=bad)


def test_features_must_be_finite():
    """The square of 1e200 is infinite in float64."""
    a, b = torch.tensor([1e200, 0.0], dtype=torch.float64), torch.tensor([0.0, 1e200], dtype=torch.float64)
    with pytest.raises(ValueError, match="xnor_certificate expects finite features, got 2 of 8 values NaN"):
        xnor_certificate("product", a, b)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (torch.arange(2), r"one class for each of the 3 embeddings, got classes of shape \(2,\)"),
        (torch.zeros(3, 1), r"one class for each of the 3 embeddings, got classes of shape \(3, 1\)"),
        (torch.ones(3, dtype=torch.int64), r"expects two classes or more, got \[1\]"),
    ],
)
def test_classes_that_do_not_fit(classes, words):
    with pytest.raises(ValueError, match=words):
        same_different_margin("product", GOOD, classes)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"one embedding each, of shape \(D,\), got a of shape \(3, 2\) and b of"):
        xnor_certificate("product", GOOD, GOOD)
    with pytest.raises(ValueError, match=r"expects embeddings of shape \(n, D\), got \(2,\)"):
        same_different_margin("product", GOOD[0], torch.arange(2))
    with pytest.raises(ValueError, match=r"Product expects u of shape \(\.\.\., 3\)"):
        same_different_margin(pf.fusions.Product(3), GOOD, torch.arange(3))
    with pytest.raises(ValueError, match="xnor_certificate compares embeddings of one encoder, but Concat has"):
        xnor_certificate(pf.fusions.Concat(2, in2_features=3), GOOD[0], GOOD[0])
    with pytest.raises(ValueError, match=r"right_embeddings of shape \(3,\)"):
        same_different_margin("product", GOOD, torch.arange(3), right_embeddings=torch.zeros(3))


def test_without_scipy_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['scipy'] = None; import torch, pairfuse as pf\n"
        "try: pf.xnor.same_different_margin('product', torch.eye(2), torch.arange(2))\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "scipy is not installed: pip install 'pairfuse[certificates]'\n"


@given(st.lists(GRID, min_size=4, max_size=4))
def test_print_of_many_items_names_them(values):
    certificate = same_different_margin("sum", torch.tensor(values)[:, None], [0, 0, 1, 1])
    assert str(certificate).startswith("not separable: ")
