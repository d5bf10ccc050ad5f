"""A gallery: encoded once, queried many times, with the scores of the model."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pairfuse as pf


class Counts(nn.Linear):
    seen = 0

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


def make(fusion="symmetric", **options):
    torch.manual_seed(0)
    return pf.SiameseComparator(Counts(4, 3), fusion, **options)


X, Q = torch.randn(7, 4), torch.randn(5, 4)


def test_the_items_are_encoded_once():
    model = make()
    gallery = pf.Gallery(model, X)
    for _ in range(3):
        gallery.topk(Q, k=2)
    model.topk(Q, gallery, k=2)
    model.score_matrix(Q, gallery)
    assert model.encoder.seen == 7 + 5 * 5


def test_the_scores_are_those_of_the_model():
    model = make().eval()
    gallery = pf.Gallery(model, DataLoader(TensorDataset(X, torch.arange(7)), batch_size=3))
    due = model(Q.repeat_interleave(7, 0), X.repeat(5, 1)).view(5, 7).detach()
    torch.testing.assert_close(gallery.scores(Q), due)
    table = torch.empty(5, 7)
    for rows, columns, scores in gallery.blocks(Q):
        table[rows, columns] = scores
    torch.testing.assert_close(table, due)
    values, indices = gallery.topk(Q, k=3)
    torch.testing.assert_close(values, due.topk(3).values)
    assert torch.equal(indices, due.topk(3).indices)
    torch.testing.assert_close(gallery.embeddings, model.encode(X).detach())
    assert (len(gallery), repr(gallery)) == (7, "Gallery(7 items of width 3)")


def test_without_queries_the_set_is_compared_with_itself():
    model = make()
    gallery = pf.Gallery(model, X)
    torch.testing.assert_close(gallery.scores(), model.score_matrix(X, X))
    torch.testing.assert_close(gallery.scores(gallery), gallery.scores())
    assert not (gallery.topk(k=1, exclude_self=True).indices.flatten() == torch.arange(7)).any()
    assert model.encoder.seen == 7 + 7


def test_a_changed_encoder_is_noticed_and_a_changed_head_is_not_an_error():
    """Embeddings of the old encoder against queries of the new one mean nothing."""
    model = make()
    gallery = pf.Gallery(model, X)
    with torch.no_grad():
        model.head.weight += 1
    torch.testing.assert_close(gallery.scores(Q), model.score_matrix(Q, X))
    with torch.no_grad():
        model.encoder.weight += 1
    for ask in (gallery.scores, gallery.blocks, gallery.topk):
        with pytest.raises(ValueError, match="encoder's weights have changed since this Gallery was made"):
            ask(Q)


def test_running_statistics_belong_to_the_encoder():
    model = pf.SiameseComparator(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), embedding_dim=3)
    gallery = pf.Gallery(model, X)
    gallery.scores(Q)
    model(X, X)  # in train mode
    with pytest.raises(ValueError, match="weights have changed"):
        gallery.scores(Q)


def test_a_gallery_of_another_encoder_s_side():
    model = make("product", right_encoder=nn.Linear(2, 3))
    gallery = pf.Gallery(model, torch.randn(6, 2))
    assert gallery.scores(Q).shape == (5, 6)
    for queries in (None, gallery):
        with pytest.raises(ValueError, match="encodes left items by another encoder: pass the items themselves"):
            gallery.scores(queries)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (
            lambda m, g: pf.Gallery(nn.Linear(4, 3), X),
            TypeError,
            "Gallery expects model to be a SiameseComparator",
        ),
        (lambda m, g: pf.Gallery(m, X[:0]), ValueError, "items must hold at least one item, got none"),
        (lambda m, g: pf.Gallery(m, X, max_bytes=0), ValueError, "max_bytes to be at least 1, got 0"),
        (lambda m, g: pf.Gallery(m, X, max_bytes=9).scores(Q), ValueError, "max_bytes=9 is too small"),
        (lambda m, g: g.topk(Q, k=8), ValueError, r"k to be at most 7 \(the gallery size 7\), got 8"),
        (lambda m, g: g.topk(Q, k=2, exclude_self=True), ValueError, "exclude_self=True is for a set with itself"),
        (lambda m, g: m.topk(Q, g, k=2, batch_size=3), TypeError, "has its own options: do not pass batch_size"),
        (lambda m, g: make().topk(Q, g, k=2), ValueError, "gallery must be a Gallery of this model"),
        (lambda m, g: g.scores(pf.Gallery(make(), Q)), ValueError, "queries must be a Gallery of the same model"),
        (lambda m, g: m.score_matrix(g, Q, batch=3), TypeError, "unexpected keyword argument 'batch'"),
    ],
)
def test_bad_input(ask, error, words):
    model = make()
    with pytest.raises(error, match=words):
        ask(model, pf.Gallery(model, X))


def test_different_sets_are_refused_before_anything_is_encoded():
    model = make()
    with pytest.raises(ValueError, match="for a set with itself, got 5 queries and a gallery of 7"):
        model.topk(Q, X, k=2, exclude_self=True)
    assert model.encoder.seen == 0


@pytest.mark.parametrize("far", [1e20, -1e20])
def test_scores_that_overflow_are_refused(far):
    """Both infinities: with -inf the order of the items means nothing."""
    model = pf.SiameseComparator(nn.Identity(), "squared-diff", embedding_dim=2)
    with pytest.raises(ValueError, match="topk expects finite scores, got -inf"):
        model.topk(torch.tensor([[far, 0.0]]), torch.randn(6, 2), k=2)
    half = pf.SiameseComparator(nn.Identity(), "squared-diff", embedding_dim=2).half()
    x = torch.tensor([[0.0, 0.0], [300.0, 0.0], [-300.0, 300.0]]).half()
    with pytest.raises(ValueError, match="topk expects finite scores, got -inf"):
        half.topk(x, x, k=2, exclude_self=True)


def test_scores_of_an_index_that_overflow_are_refused():
    pytest.importorskip("faiss")
    model = pf.SiameseComparator(nn.Identity(), "squared-diff", embedding_dim=2)
    with pytest.raises(ValueError, match="search expects finite scores, got"):
        pf.index.FaissIndex(model, torch.randn(6, 2)).search(torch.tensor([[1e20, 0.0]]), k=2)


def test_exclude_self_is_for_a_set_with_itself():
    """Equal sizes are not enough: of two sets, every query would lose the item that happens to have its position."""
    model = make()
    gallery, other = pf.Gallery(model, X), torch.randn(7, 4)
    for ask in (
        lambda: gallery.topk(other, k=1, exclude_self=True),
        lambda: gallery.topk(pf.Gallery(model, other), k=1, exclude_self=True),
        lambda: model.topk(other, X, k=1, exclude_self=True),
        lambda: model.topk(TensorDataset(other), X, k=1, exclude_self=True),
        lambda: model.topk(X.flip(0), X, k=1, exclude_self=True),
    ):
        with pytest.raises(ValueError, match="exclude_self=True is for a set with itself, got queries whose"):
            ask()
    due = gallery.topk(k=2, exclude_self=True)
    for same in (X, X.clone(), TensorDataset(X), pf.Gallery(model, X, batch_size=2), gallery):
        assert torch.equal(gallery.topk(same, k=2, exclude_self=True).indices, due.indices)
    two_views = pf.SiameseComparator(nn.Linear(4, 3), "product", right_encoder=nn.Linear(4, 3))
    assert not (two_views.topk(other, X, 1, exclude_self=True).indices.flatten() == torch.arange(7)).any()


@pytest.mark.parametrize("method", ["score_matrix", "iter_score_blocks", "topk"])
def test_none_is_no_set_of_queries(method):
    """Only a gallery may be asked without queries."""
    model, options = make(), (1,) if method == "topk" else ()
    with pytest.raises(TypeError, match="must be items or a Gallery, got None: to compare a set with itself, pass it"):
        getattr(model, method)(None, X, *options)
    assert model.encoder.seen == 0


@pytest.mark.parametrize("ask", ["score_matrix", "topk", "score_embeddings", "inner_product_form"])
@pytest.mark.parametrize("normed", [False, True])
def test_a_lazy_head_must_have_run(ask, normed):
    head = nn.Sequential(nn.LazyBatchNorm1d(), nn.Linear(3, 1)) if normed else nn.LazyLinear(1)
    model = make("product", head=head).eval()
    arguments = {"topk": (Q, X, 1), "score_matrix": (Q, X), "score_embeddings": (Q[:, :3], X[:, :3])}.get(ask, ())
    with torch.no_grad(), pytest.raises(ValueError, match=f"{ask} expects layers that know their width, got Lazy"):
        getattr(model, ask)(*arguments)
    model(Q, Q)
    if not normed or ask != "inner_product_form":
        getattr(model, ask)(*arguments)


@pytest.mark.parametrize("right", [None, nn.Linear(8, 4)])
def test_embeddings_are_compared_as_the_items_are(right):
    """Also after `start_head`, which fixes the size of the embeddings; the model itself keeps its encoders."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Linear(8, 4), "sbert", right_encoder=right)
    x, y = 100 * torch.randn(9, 8), 100 * torch.randn(7, 8)
    model.start_head(x[:7], y)
    other = model.on_embeddings()
    u, v = model.encode_items(x), model.encode_items(y, side="right")
    assert model.embedding_scale < 0.5
    torch.testing.assert_close(other.score_matrix(u, v), model.score_matrix(x, y))
    torch.testing.assert_close(other(u[:7], v), model(x[:7], y))
    assert other(u[0], v[0]).shape == ()
    assert isinstance(model.encoder, nn.Linear)
    assert other.head is model.head
