"""The scores as inner products, and a faiss index of them."""

import re
import sys

import pytest
import torch
from scoring_cases import FUSIONS, HEADS, assert_equal, build, randn
from torch import nn

import pairfuse as pf
from pairfuse.fusions import Bilinear, Symmetrized

WITH_FACTORS = [name for name in pf.list_fusions() if pf.make_fusion(name, 4).fast_path]


@pytest.mark.parametrize("name", [*WITH_FACTORS, "Symmetrized(bilinear)"])
@pytest.mark.parametrize("head", ["linear", "no bias", "linear twice", "dropout first, one"])
def test_inner_products_are_the_scores(name, head):
    heads = {**HEADS, "dropout first, one": lambda f: nn.Sequential(nn.Dropout(), nn.Linear(f, 1), nn.Identity())}
    model = build(FUSIONS[name], heads[head], 4)
    u, v = randn(5, 4), randn(7, 4, seed=1)
    for origin in (None, v.mean(0)):
        form = model.inner_product_form(origin=origin)
        query, gallery = form.to_query(u), form.to_gallery(v)
        assert query.shape == (5, form.features)
        assert gallery.shape == (7, form.features)
        with torch.no_grad():
            assert_equal(query @ gallery.T + form.constant, model.score_embeddings(u, v), 1e-12)


def test_two_widths():
    fusion = pf.make_fusion("biaffine", 5, in2_features=2)
    model = pf.SiameseComparator(nn.Linear(4, 5), fusion, right_encoder=nn.Linear(3, 2))
    u, v = torch.randn(3, 5), torch.randn(4, 2)
    form = model.inner_product_form()
    scores = form.to_query(u) @ form.to_gallery(v).T + form.constant
    torch.testing.assert_close(scores, model.score_embeddings(u, v).detach())


def test_it_is_a_snapshot_and_leaves_the_model_as_it_was():
    model = pf.SiameseComparator(nn.Linear(4, 3), "bilinear")
    u, v = torch.randn(2, 3), torch.randn(2, 3)
    form = model.inner_product_form()
    before = form.to_query(u) @ form.to_gallery(v).T + form.constant
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(form.to_query(u) @ form.to_gallery(v).T + form.constant, before)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_origin_saves_squared_differences_from_cancelling():
    model = build("squared-diff", HEADS["linear"], 8, torch.float32)
    u, v = randn(5, 8, dtype=torch.float32) + 1000, randn(6, 8, seed=1, dtype=torch.float32) + 1000
    with torch.no_grad():
        due = model.score_embeddings(u, v)
    errors = []
    for origin in (None, v.mean(0)):
        form = model.inner_product_form(origin=origin)
        errors.append((form.to_query(u) @ form.to_gallery(v).T + form.constant - due).abs().max())
    assert errors[1] < 1e-3 < errors[0]


def test_dropout_in_train_mode_is_off():
    model = pf.SiameseComparator(nn.Linear(4, 3), "product", nn.Sequential(nn.Dropout(), nn.Linear(3, 1))).train()
    u, v = torch.randn(2, 3), torch.randn(2, 3)
    form = model.inner_product_form()
    with torch.no_grad():
        due = model.eval().score_embeddings(u, v)
    torch.testing.assert_close(form.to_query(u) @ form.to_gallery(v).T + form.constant, due)


def test_a_hook_or_a_patch_is_not_overlooked():
    for alter in (
        lambda model: model.head.register_forward_hook(lambda module, inputs, output: -output),
        lambda model: model.fusion.register_forward_pre_hook(lambda module, inputs: None),
        lambda model: setattr(model.fusion, "fuse", lambda u, v: u),
    ):
        model = pf.SiameseComparator(nn.Linear(4, 3), "product")
        alter(model)
        with pytest.raises(ValueError, match="expects a fusion and a head without hooks or patched methods"):
            model.inner_product_form()


LINEAR = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: pf.SiameseComparator(nn.Linear(4, 3)).inner_product_form(),
            ValueError,
            "expects a separable fusion, got SymmetricHeuristic: a score such as |u − v| is not an inner product",
        ),
        (
            lambda: pf.SiameseComparator(nn.Linear(4, 3), "product", "mlp").inner_product_form(),
            ValueError,
            "expects a linear head with one output, got Sequential(",
        ),
        (
            lambda: pf.SiameseComparator(nn.Linear(4, 3), "product", nn.Linear(3, 2)).inner_product_form(),
            ValueError,
            "expects a linear head with one output",
        ),
        (
            lambda: pf.SiameseComparator(
                nn.Linear(4, 3), "product", nn.Sequential(nn.Linear(3, 1), nn.Tanh())
            ).inner_product_form(),
            ValueError,
            "expects a linear head with one output",
        ),
        (lambda: LINEAR.inner_product_form(origin=[0.0]), TypeError, "expects origin to be a tensor, got list"),
        (
            lambda: LINEAR.inner_product_form(origin=torch.zeros(2)),
            ValueError,
            "expects origin of shape (3,), with embeddings of one width, got shape (2,)",
        ),
        (
            lambda: LINEAR.inner_product_form(origin=torch.full((3,), torch.nan)),
            ValueError,
            "expects finite origin, got 3 of 3",
        ),
        (
            lambda: LINEAR.inner_product_form().to_query(torch.zeros(3)),
            ValueError,
            "to_query expects floating-point u of shape (N, 3), got torch.float32 of shape (3,)",
        ),
        (
            lambda: LINEAR.inner_product_form().to_gallery(torch.zeros(2, 3).long()),
            ValueError,
            "to_gallery expects floating-point v of shape (N, 3), got torch.int64",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


class TestFaiss:
    """The index gives what `topk` gives."""

    @pytest.fixture(autouse=True)
    def _faiss(self):
        pytest.importorskip("faiss")

    @pytest.mark.parametrize("fusion", [*WITH_FACTORS, lambda width: Symmetrized(Bilinear(width, 3))])
    def test_same_ids_and_values(self, fusion):
        torch.manual_seed(1)
        spec = fusion(4) if callable(fusion) else fusion
        model = pf.SiameseComparator(nn.Linear(6, 4), spec, allow_additive=True)
        queries, gallery = torch.randn(20, 6), torch.randn(300, 6) + 3
        due = model.topk(queries, gallery, k=5)
        index = pf.index.FaissIndex(model, gallery)
        found = index.search(queries, k=5)
        assert len(index) == 300
        assert torch.equal(found.indices, due.indices)
        torch.testing.assert_close(found.values, due.values, rtol=1e-4, atol=1e-4)
        assert model.training

    def test_data_sets(self):
        model = pf.SiameseComparator(nn.Linear(6, 4), "product")
        queries, gallery = torch.randn(5, 6), torch.randn(9, 6)
        index = pf.index.FaissIndex(model, torch.utils.data.TensorDataset(gallery), batch_size=2)
        assert torch.equal(index.search(queries, 3).indices, model.topk(queries, gallery, 3).indices)

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (
                lambda: pf.index.FaissIndex(nn.Linear(3, 3), torch.zeros(2, 3)),
                TypeError,
                "SiameseComparator, got Linear",
            ),
            (
                lambda: pf.index.FaissIndex(pf.SiameseComparator(nn.Linear(3, 3)), torch.zeros(2, 3)),
                ValueError,
                "FaissIndex expects a separable fusion, got SymmetricHeuristic",
            ),
            (lambda: pf.index.FaissIndex(LINEAR, torch.zeros(0, 3)), ValueError, "gallery must hold at least one item"),
            (
                lambda: pf.index.FaissIndex(LINEAR, torch.full((2, 3), torch.nan)),
                ValueError,
                "expects finite gallery, got 6 of 6",
            ),
            (
                lambda: pf.index.FaissIndex(LINEAR, torch.ones(2, 3)).search(torch.ones(1, 3), 3),
                ValueError,
                "search expects k to be at most 2",
            ),
            (
                lambda: pf.index.FaissIndex(LINEAR, torch.ones(2, 3)).search(torch.full((1, 3), torch.inf), 1),
                ValueError,
                "expects finite queries",
            ),
        ],
    )
    def test_bad_input(self, call, error, words):
        with pytest.raises(error, match=re.escape(words)):
            call()


def test_without_faiss_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'pairfuse[faiss]'")):
        pf.index.FaissIndex(LINEAR, torch.ones(2, 3))
