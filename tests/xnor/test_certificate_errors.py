"""What certificates say of bad input: one clear error each."""

import subprocess
import sys

import pytest
import torch

import pairfuse as pf
from pairfuse.xnor import class_certificate, xnor_certificate

GOOD = torch.randn(3, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_must_be_finite(value):
    bad = GOOD.clone()
    bad[1, 0] = value
    with pytest.raises(ValueError, match="xnor_certificate expects finite b, got 1 of 2 values NaN or infinite"):
        xnor_certificate("product", bad[0], bad[1])
    with pytest.raises(ValueError, match="class_certificate expects finite embeddings, got 1 of 6 values NaN"):
        class_certificate("product", bad, torch.arange(3))
    with pytest.raises(ValueError, match="class_certificate expects finite right_embeddings, got 1 of 6"):
        class_certificate("product", GOOD, torch.arange(3), right_embeddings=bad)


def test_features_must_be_finite():
    """The square of 1e200 is infinite in float64."""
    a, b = torch.tensor([1e200, 0.0], dtype=torch.float64), torch.tensor([0.0, 1e200], dtype=torch.float64)
    with pytest.raises(ValueError, match="xnor_certificate expects finite features, got 2 of 8 values NaN"):
        xnor_certificate("product", a, b)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (torch.arange(2), r"one class for each of the 3 embeddings, got classes of shape \(2,\)"),
        (
            torch.zeros(3, 1, dtype=torch.int64),
            r"one class for each of the 3 embeddings, got classes of shape \(3, 1\)",
        ),
        (torch.ones(3, dtype=torch.int64), r"expects two classes or more, got \[1\]"),
    ],
)
def test_classes_that_do_not_fit(classes, words):
    with pytest.raises(ValueError, match=words):
        class_certificate("product", GOOD, classes)


@pytest.mark.parametrize("classes", [["a", "b", "c"], torch.rand(3), [0.0, 1.0, 2.0], None])
def test_classes_are_integers(classes):
    with pytest.raises(TypeError, match="class_certificate expects classes to be integers, got"):
        class_certificate("product", GOOD, classes)


def test_embeddings_are_tensors():
    with pytest.raises(TypeError, match=r"xnor_certificate expects b to be a tensor, got list: use torch\.as_tensor"):
        xnor_certificate("product", GOOD[0], [1.0, 2.0])
    with pytest.raises(TypeError, match="class_certificate expects embeddings to be a tensor, got ndarray"):
        class_certificate("product", GOOD.numpy(), torch.arange(3))
    with pytest.raises(TypeError, match="xnor_margin expects a to be a tensor, got list"):
        pf.xnor_margin("product", [1.0, 2.0], GOOD[0])


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"one embedding each, of shape \(D,\), got a of shape \(3, 2\) and b of"):
        xnor_certificate("product", GOOD, GOOD)
    with pytest.raises(ValueError, match=r"expects embeddings of shape \(n, D\), got \(2,\)"):
        class_certificate("product", GOOD[0], torch.arange(2))
    with pytest.raises(ValueError, match=r"Product expects u of shape \(\.\.\., 3\)"):
        class_certificate(pf.fusions.Product(3), GOOD, torch.arange(3))
    with pytest.raises(ValueError, match="xnor_certificate compares embeddings of one encoder, but Concat has"):
        xnor_certificate(pf.fusions.Concat(2, in2_features=3), GOOD[0], GOOD[0])
    with pytest.raises(ValueError, match=r"right_embeddings of shape \(3,\)"):
        class_certificate("product", GOOD, torch.arange(3), right_embeddings=torch.zeros(3))


def test_without_scipy_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['scipy'] = None; import torch, pairfuse as pf\n"
        "try: pf.xnor.class_certificate('product', torch.eye(2), torch.arange(2))\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "scipy is not installed: pip install 'pairfuse[certificates]'\n"
