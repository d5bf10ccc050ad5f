"""Cosine: half precision, zeros, lengths."""

import pytest
import torch

from pairfuse.fusions import Cosine


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zero_embeddings_give_zero_and_a_finite_gradient(dtype):
    """In float16 torch's own eps of 1e-8 is 0, and the cosine of zero would be NaN."""
    zero = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    cosine = Cosine(3)(zero, zero)
    cosine.sum().backward()
    assert (cosine == 0).all()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_embeddings_do_not_overflow(dtype):
    u = torch.full((1, 100), 300.0, dtype=dtype)
    assert Cosine(100)(u, u).item() == pytest.approx(1, abs=torch.finfo(dtype).eps)
    assert Cosine(100)(u, -u).item() == pytest.approx(-1, abs=torch.finfo(dtype).eps)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_lengths_do_not_matter(factor):
    u, v = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(Cosine(4)(factor * u, v), Cosine(4)(u, v))
    assert (Cosine(4)(u, v).abs() <= 1 + 1e-6).all()


def test_agrees_with_torch():
    u, v = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(Cosine(4)(u, v).squeeze(-1), torch.nn.CosineSimilarity(dim=-1)(u, v))


def test_eps_is_the_smallest_norm():
    u = torch.tensor([0.1, 0.0])
    assert Cosine(2, eps=1.0)(u, u).item() == pytest.approx(0.01)
