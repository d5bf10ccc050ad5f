"""The inner products of rows: the same numbers from either library, and gradients where they are wanted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.scoring import products as _products
from pairfuse.scoring.products import products_of_rows

needs_onednn = pytest.mark.skipif(not _products._has_onednn(), reason="this torch has no oneDNN beside MKL")


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN is called."""
    count, real = [], torch.ops.mkldnn._linear_pointwise

    class Counting:
        def _linear_pointwise(self, *arguments):
            count.append(arguments)
            return real(*arguments)

    monkeypatch.setattr(torch.ops, "mkldnn", Counting())
    return count


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
def test_equal_to_the_product(n, m, d, seed):
    """For every shape, those without a number among them, and rows that do not lie side by side."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(n, 2 * d, generator=generator)[:, ::2], torch.randn(d, m, generator=generator).mT
    with torch.no_grad():
        torch.testing.assert_close(products_of_rows(left, right), left @ right.mT, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_onednn_is_called_where_only_numbers_are_wanted(calls):
    x = torch.randn(3, 4)
    with torch.no_grad():
        products_of_rows(x, x)
    assert len(calls) == 1


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_numbers_are_multiplied_as_ever(calls, dtype):
    x = torch.randn(3, 4, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(products_of_rows(x, x), x @ x.mT)
    assert not calls


@needs_onednn
def test_onednn_stays_off_where_the_user_turned_it_off(calls, monkeypatch):
    monkeypatch.setattr(_products.torch.backends.mkldnn, "enabled", False)
    with torch.no_grad():
        products_of_rows(torch.randn(3, 4), torch.randn(2, 4))
    assert not calls


@needs_onednn
def test_an_operator_that_has_changed_is_not_called(monkeypatch):
    """The operator is not public: with other arguments than those of today it is left alone."""
    monkeypatch.setattr(_products, "_SCHEMA", "another")
    assert not _products._has_onednn.__wrapped__()


def test_gradients_go_through():
    left, right = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    products_of_rows(left, right).sum().backward()
    torch.testing.assert_close(left.grad, right.detach().sum(0).expand(3, -1))
