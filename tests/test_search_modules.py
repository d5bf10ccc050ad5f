"""`search_modules`: two encoders and a scorer, with the scores of the comparator."""

import pytest
import torch
from export_cases import Series, comparator, texts
from scoring_cases import each_fusion
from torch import nn

import pairfuse as pf


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@each_fusion
def test_scores_of_all_pairs(fusion, head, tied):
    """Embeddings, and vectors of an inner product where there is such a form."""
    model = comparator(fusion, head, tied=tied)
    queries, items = texts(3, 5), texts(6, 4, seed=1)
    due = model.score_matrix(queries, items)
    query_encoder, gallery_encoder, scorer = model.search_modules()
    u, v = query_encoder(queries), gallery_encoder(items)
    assert torch.equal(u, model.encode_items(queries))
    assert torch.equal(v, model.encode_items(items, side="right"))
    torch.testing.assert_close(scorer(u, v), due, atol=1e-5, rtol=1e-5)
    if model.fusion.fast_path and head == "linear":
        origin = v.mean(0)
        form = model.inner_product_form(origin=origin)
        query_encoder, gallery_encoder, scorer = model.search_modules(inner_product=True, origin=origin)
        q, g = query_encoder(queries), gallery_encoder(items)
        assert torch.equal(q, form.to_query(u))
        assert torch.equal(g, form.to_gallery(v))
        torch.testing.assert_close(scorer(q, g), due, atol=1e-4, rtol=1e-4)


def test_are_snapshots():
    model = comparator("squared-diff").train()
    x = texts(3, 5)
    for inner_product in (False, True):
        modules = model.search_modules(inner_product=inner_product)
        before = modules.query_encoder(x)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1
        assert torch.equal(modules.query_encoder(x), before)
        assert not any(part.training for module in modules for part in module.modules())
    assert model.training


def test_move_to_a_dtype():
    """Weight, constant, origin and scale move with the module."""
    model, x = comparator("squared-diff", encoder=Series), torch.randn(3, 5, 3)
    due = model.score_matrix(x, x)
    q, g, scorer = (module.double() for module in model.search_modules(inner_product=True, origin=torch.ones(4)))
    scores = scorer(q(x.double()), g(x.double()))
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), due, atol=1e-4, rtol=1e-4)


def test_half_precision_is_scored_in_float32():
    model, x = comparator(encoder=Series).bfloat16(), torch.randn(3, 5, 3).bfloat16()
    q, g, scorer = model.search_modules()
    scores = scorer(q(x), g(x))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.bfloat16(), model.score_matrix(x, x), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("inner_product", [False, True])
def test_a_single_item(inner_product):
    model = pf.SiameseComparator(Series(), "product", embedding_dim=4, item_ndim=2)
    encoder, x = model.search_modules(inner_product=inner_product).query_encoder, torch.randn(1, 5, 3)
    torch.testing.assert_close(encoder(x[0]), encoder(x)[0])


def test_several_outputs():
    model = pf.SiameseComparator(Series(), "product", nn.Linear(4, 3), embedding_dim=4).eval()
    q, g, scorer = model.search_modules()
    x = torch.randn(2, 5, 3)
    assert scorer(q(x), g(x)).shape == (2, 2, 3)


def test_errors():
    with pytest.raises(
        ValueError, match=r"search_modules\(inner_product=True\) expects a separable fusion, got AbsDiff"
    ):
        comparator("abs-diff").search_modules(inner_product=True)
    with pytest.raises(ValueError, match="expects no origin with inner_product=False, got one"):
        comparator().search_modules(origin=torch.zeros(4))
    lazy = pf.SiameseComparator(nn.LazyLinear(4), "product", embedding_dim=4)
    with pytest.raises(ValueError, match="search_modules expects layers that know their width, got LazyLinear"):
        lazy.search_modules()
    with pytest.raises(TypeError, match=r"items must be a tensor, .* got str: tokenize texts first"):
        comparator().search_modules().query_encoder("text")
