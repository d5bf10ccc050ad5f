"""The methods for all pairs: what they take, what they return, what they leave as it was."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scoring_cases import HEADS, build, least_budget, randn
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pairfuse as pf


class Counts(nn.Module):
    """An encoder that counts the items it has seen."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 3), 0

    def forward(self, x):
        self.seen += len(x)
        return self.layer(x)


class Items(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


def test_each_item_is_encoded_once_whatever_holds_it():
    model = pf.SiameseComparator(Counts(), "product", embedding_dim=3)
    x1, x2 = torch.randn(7, 4), torch.randn(5, 4)
    due = model.score_matrix(x1, x2)
    for left, right in (
        (Items(x1), Items(x2)),
        (TensorDataset(x1), DataLoader(Items(x2), 2)),
        (x1, DataLoader(TensorDataset(x2), 5)),
    ):
        model.encoder.seen = 0
        torch.testing.assert_close(model.score_matrix(left, right, batch_size=3), due)
        assert model.encoder.seen == 12
    model.encoder.seen = 0
    model.topk(x1, x1, k=2, exclude_self=True)
    assert model.encoder.seen == 7


def test_nested_items():
    class Bag(nn.Module):
        embedding_dim = 3

        def forward(self, x):
            return x["a"] + x["b"]

    x = {"a": torch.randn(5, 3), "b": torch.randn(5, 3)}
    model = pf.SiameseComparator(Bag(), "product")
    torch.testing.assert_close(model.score_matrix(x, x, batch_size=2), model.score_matrix(x, x))


def test_mode_and_gradients_are_as_before_also_after_an_error():
    model = pf.SiameseComparator(nn.Sequential(nn.Linear(4, 3), nn.Dropout()), "product", embedding_dim=3)
    scores = model.score_matrix(torch.randn(2, 4), torch.randn(2, 4))
    assert not scores.requires_grad
    assert model.training
    assert model.encoder[1].training
    with pytest.raises(RuntimeError):
        model.score_matrix(torch.randn(2, 4), torch.randn(2, 5))
    assert model.training


@given(data=st.data())
def test_topk_is_that_of_the_matrix(data):
    """Values and indices, for any k, any blocks, and with a set against itself."""
    name = data.draw(st.sampled_from(["product", "abs-diff", "symmetric", "ntn"]))
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 9))
    exclude = data.draw(st.booleans())
    model = build(name, HEADS[data.draw(st.sampled_from(["linear", "mlp"]))], 3)
    v = randn(m, 3, seed=1)
    u = v if exclude else randn(n, 3)
    k = data.draw(st.integers(1, m - exclude))
    budget = least_budget(model, u, v) + data.draw(st.integers(0, 1000))
    found = model.topk(u, v, k, exclude_self=exclude, max_bytes=budget)
    scores = model.score_matrix(u, v)
    if exclude:
        scores.fill_diagonal_(-torch.inf)
    due = scores.topk(k)
    torch.testing.assert_close(found.values, due.values)
    assert torch.equal(found.indices, due.indices)


def test_topk_over_several_chunks_of_the_gallery(monkeypatch):
    monkeypatch.setattr("pairfuse.scoring.topk.BLOCK", 7)
    model = build("product", HEADS["linear"], 3)
    u, v = randn(5, 3), randn(50, 3, seed=1)
    values, indices = model.topk(u, v, k=10)
    due = model.score_matrix(u, v).topk(10)
    torch.testing.assert_close(values, due.values)
    assert torch.equal(indices, due.indices)


GOOD = randn(4, 3, dtype=torch.float32)
MODEL = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=3)
LINEAR = pf.SiameseComparator(nn.Linear(3, 3), "product")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: MODEL.topk(GOOD, GOOD, 5), ValueError, "topk expects k to be at most 4 (the gallery size 4), got 5"),
        (
            lambda: MODEL.topk(GOOD, GOOD, 4, exclude_self=True),
            ValueError,
            "at most 3 (the gallery size 4, without the item itself)",
        ),
        (lambda: MODEL.topk(GOOD[:2], GOOD, 1, exclude_self=True), ValueError, "got 2 queries and a gallery of 4"),
        (lambda: MODEL.topk(GOOD, GOOD, 0), ValueError, "topk expects k to be at least 1, got 0"),
        (lambda: MODEL.topk(GOOD[:0], GOOD, 1), ValueError, "queries must hold at least one item, got none"),
        (lambda: MODEL.topk(GOOD, GOOD[:0], 1), ValueError, "gallery must hold at least one item, got none"),
        (lambda: MODEL.topk(GOOD, GOOD * torch.nan, 1), ValueError, "topk expects finite gallery, got 12 of 12 values"),
        (
            lambda: MODEL.topk(DataLoader(GOOD, 2, shuffle=True), GOOD, 1),
            ValueError,
            "queries must give all its items in order, got a DataLoader with a RandomSampler: pass shuffle=False",
        ),
        (
            lambda: MODEL.topk(GOOD, DataLoader(GOOD, 3, drop_last=True), 1),
            ValueError,
            "gallery must give all its items in order, got a DataLoader with drop_last=True",
        ),
        (
            lambda: LINEAR.score_matrix(TensorDataset(GOOD, torch.ones(4, 2)), GOOD),
            ValueError,
            "x1 is [shape (4, 3), shape (4, 2)]: if the encoder takes only the first, pass that alone",
        ),
        (
            lambda: MODEL.score_matrix(["a", "b"], GOOD),
            TypeError,
            "x1 must be a tensor, or nested dicts, tuples or lists of tensors, got str",
        ),
        (
            lambda: LINEAR.score_matrix(Items([{"x": row, "text": "abc"} for row in GOOD]), GOOD),
            TypeError,
            "x1 must be a tensor, or nested dicts, tuples or lists of tensors, got str",
        ),
        (
            lambda: MODEL.score_embeddings(GOOD.double(), GOOD),
            ValueError,
            "expects u of the model's dtype, got u of torch.float64 and the model of torch.float32",
        ),
        (
            lambda: MODEL.score_embeddings(GOOD.to("meta"), GOOD.to("meta")),
            ValueError,
            "expects u on the model's device, got u on meta and the model on cpu",
        ),
        (lambda: MODEL.score_matrix(GOOD, GOOD.numpy()), TypeError, "items, got ndarray: use torch.as_tensor"),
        (lambda: MODEL.score_matrix(GOOD, "x"), TypeError, "a Dataset or a DataLoader of items, got str"),
        (lambda: MODEL.score_matrix(GOOD, GOOD, max_bytes=1), ValueError, "max_bytes=1 is too small for a single pair"),
        (lambda: MODEL.score_matrix(GOOD, GOOD, max_bytes=0), ValueError, "expects max_bytes to be at least 1, got 0"),
        (
            lambda: MODEL.score_matrix(GOOD, GOOD, batch_size=0),
            ValueError,
            "encoding x2 expects batch_size to be at least 1",
        ),
        (
            lambda: MODEL.score_embeddings(GOOD, GOOD[:, :2]),
            ValueError,
            "u of shape (N, 3) and v of shape (M, 3)",
        ),
        (lambda: MODEL.score_embeddings(GOOD[0], GOOD), ValueError, "got u of shape (3,) and v of shape (4, 3)"),
        (
            lambda: MODEL.score_embeddings(GOOD.to("meta"), GOOD),
            ValueError,
            "on one device, got u on meta and v on",
        ),
        (lambda: MODEL.score_embeddings(GOOD.long(), GOOD), TypeError, "expects floating-point embeddings"),
        (lambda: MODEL.score_embeddings([1.0], GOOD), TypeError, "expects u to be a tensor, got list"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


def test_blocks_are_made_in_eval_mode_and_between_them_all_is_as_before():
    """Also for a loop that trains meanwhile, and for one that stops half-way."""
    head = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 1))
    model = pf.SiameseComparator(nn.Linear(4, 3), "product", head).train()
    x = torch.randn(6, 4)
    due = model.score_matrix(x, x)
    blocks = model.iter_score_blocks(x, x, max_bytes=1000)
    assert head.training
    for rows, columns, scores in blocks:
        assert head.training
        assert torch.is_grad_enabled()
        assert not scores.requires_grad
        torch.testing.assert_close(scores, due[rows, columns])
    next(model.iter_score_blocks(x, x))
    assert head.training


def test_blocks_come_row_by_row_and_what_is_wrong_is_said_at_once():
    corners = [(rows.start, columns.start) for rows, columns, _ in MODEL.iter_score_blocks(GOOD, GOOD, max_bytes=130)]
    assert corners == sorted(corners)
    assert len(corners) > 4
    with pytest.raises(ValueError, match="max_bytes=1 is too small"):
        MODEL.iter_score_blocks(GOOD, GOOD, max_bytes=1)


def test_encode_items():
    model = pf.SiameseComparator(nn.Linear(4, 3), "bilinear", right_encoder=nn.Linear(2, 3))
    x = torch.randn(5, 2)
    found = model.encode_items(TensorDataset(x), side="right", batch_size=2)
    assert not found.requires_grad
    torch.testing.assert_close(found, model.right_encoder(x).detach())
    with pytest.raises(ValueError, match="side must be 'left' or 'right', got 'both'"):
        model.encode_items(x, side="both")


def test_nothing_is_its_own_neighbour():
    x = torch.arange(5.0)[:, None] ** 2
    model = pf.SiameseComparator(nn.Identity(), "squared-diff", embedding_dim=1)
    found = model.topk(x, x, k=4, exclude_self=True)
    assert found.indices[:, 0].tolist() == [1, 0, 1, 2, 3]
    assert (found.indices != torch.arange(5)[:, None]).all()
    assert found.values.isfinite().all()


def test_one_item_is_told_from_a_batch():
    """Calling the model takes a single pair; a search takes sets."""
    model = pf.SiameseComparator(nn.Linear(4, 3), item_ndim=1)
    with pytest.raises(ValueError, match=r"queries must be a batch of items, got one item of shape \(4,\): pass que"):
        model.topk(torch.randn(4), torch.randn(5, 4), k=1)


def test_scores_that_overflow_are_refused():
    """inf − inf is NaN or, where a product and a sum are rounded at once, inf; both would come first."""
    x = torch.full((2, 3), 1e30)
    model = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=3)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
    with pytest.raises(
        ValueError, match=r"topk expects finite scores, got (NaN|inf): the embeddings or the head's weights"
    ):
        model.topk(x, x, k=1)


def test_an_encoder_s_own_error_is_kept_and_says_what_it_was_given():
    with pytest.raises(RuntimeError) as error:
        LINEAR.score_matrix(GOOD, GOOD[:, :2])
    assert error.value.__notes__ == ["encoder Linear was given x2: shape (4, 2)"]


def test_k_is_checked_before_anything_is_encoded():
    model = pf.SiameseComparator(Counts(), "product", embedding_dim=3)
    with pytest.raises(ValueError, match="k to be at most 5"):
        model.topk(torch.randn(7, 4), Items(torch.randn(5, 4)), k=6)
    assert model.encoder.seen == 0


def test_modules_whose_train_does_more_than_set_a_flag():
    class Merges(nn.Linear):
        """As LoRA layers do: weights are merged in eval mode and taken apart in train mode."""

        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = pf.SiameseComparator(Merges(4, 3), "product")
    model.score_matrix(torch.randn(2, 4), torch.randn(2, 4))
    assert model.encoder.training
    assert not model.encoder.merged


def test_several_logits_have_no_order():
    model = pf.SiameseComparator(nn.Identity(), "product", nn.Linear(3, 2), embedding_dim=3)
    with pytest.raises(ValueError, match="topk expects a head with one output, got 2: use score_matrix"):
        model.topk(GOOD, GOOD, 1)


def test_training_on_all_pairs_of_a_batch():
    """B encodes, B² pairs: an in-batch loss reaches the encoder."""
    model = pf.SiameseComparator(nn.Linear(4, 3))
    x = torch.randn(6, 4)
    embeddings = model.encode(x)
    logits = model.score_embeddings(embeddings, embeddings)
    nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(6)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters())


def test_progress_is_shown_where_it_is_asked_for(capsys):
    MODEL.score_matrix(GOOD, GOOD, progress=True)
    assert "encoding x2" in capsys.readouterr().err
    MODEL.score_matrix(GOOD, GOOD)
    assert capsys.readouterr().err == ""
