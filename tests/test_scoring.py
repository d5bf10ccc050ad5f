"""All pairs at once: equal to `forward` on every pair, in values and gradients, in bounded memory."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pairfuse as pf
from pairfuse.fusions import MFB, NTN, Bilinear, Max, PowerNormalized, Stack, Symmetrized
from pairfuse.heads import split_head
from pairfuse.scoring import block_size, bytes_per_pair

FUSIONS = {
    **{name: name for name in pf.list_fusions()},
    "stack of all": [name for name in pf.list_fusions() if name not in ("symmetric", "infersent", "sbert", "mou")],
    "Symmetrized(NTN)": lambda width: Symmetrized(NTN(width)),
    "Symmetrized(bilinear)": lambda width: Symmetrized(Bilinear(width, 3)),
    "Symmetrized([max, ntn])": lambda width: Symmetrized(Stack([Max(width), NTN(width)])),
    "PowerNormalized": lambda width: PowerNormalized(MFB(width, 4)),
}
HEADS = {
    "linear": lambda f: "linear",
    "mlp": lambda f: "mlp",
    "three logits": lambda f: nn.Linear(f, 3),
    "no bias": lambda f: nn.Linear(f, 1, bias=False),
    "dropout first": lambda f: nn.Sequential(
        nn.Dropout(), nn.Linear(f, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2)
    ),
    "norm first": lambda f: nn.Sequential(nn.LayerNorm(f), nn.Linear(f, 1)),
    "squeezed": lambda f: nn.Sequential(nn.Linear(f, 1), nn.Flatten(0)),
}
each_fusion = pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def build(fusion, head, width, dtype=torch.float64):
    """A comparator in eval mode whose every parameter counts."""
    torch.manual_seed(0)
    spec = fusion(width) if callable(fusion) else pf.make_fusion(fusion, width)
    model = pf.SiameseComparator(nn.Identity(), spec, head(spec.out_features), embedding_dim=width, allow_additive=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.to(dtype).eval()


def paired(model, u, v):
    """`forward` on every pair, one after the other."""
    logits = model.head(model.fusion(u.repeat_interleave(len(v), 0), v.repeat(len(u), 1)))
    logits = logits.view(len(u), len(v), -1)
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_equal(found, due, tolerance):
    assert found.shape == due.shape
    assert (found - due).abs().max() <= tolerance * due.abs().max().clamp(min=1)


@each_fusion
@each_head
def test_scores_are_those_of_forward(fusion, head):
    """1e-12 in float64, 1e-5 in float32, whatever N, M and D are, 1 among them."""
    for width in (1, 5) if fusion is not FUSIONS["PowerNormalized"] else (2, 5):
        for n, m in ((1, 1), (1, 4), (4, 1), (7, 3)):
            for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
                model = build(fusion, head, width, dtype)
                u, v = randn(n, width, dtype=dtype), randn(m, width, seed=1, dtype=dtype)
                with torch.no_grad():
                    assert_equal(model.score_embeddings(u, v), paired(model, u, v), tolerance)
                    assert_equal(model.score_matrix(u, v), paired(model, u, v), tolerance)


@each_fusion
@each_head
def test_gradients_are_those_of_forward(fusion, head):
    """Of both embeddings and every parameter."""
    model = build(fusion, head, 5)
    given = randn(4, 5).requires_grad_(), randn(3, 5, seed=1).requires_grad_()
    tensors = [*given, *model.parameters()]
    towards = torch.randn_like(paired(model, *given))
    due = torch.autograd.grad((paired(model, *given) * towards).sum(), tensors)
    found = torch.autograd.grad((model.score_embeddings(*given) * towards).sum(), tensors)
    for x, y in zip(found, due, strict=True):
        assert_equal(x, y, 1e-12)


@each_fusion
@given(data=st.data())
def test_blocks_do_not_change_a_score(fusion, data):
    """Whatever the budget, and whatever blocks it makes, down to a pair each."""
    head = data.draw(st.sampled_from([HEADS["linear"], HEADS["mlp"], HEADS["norm first"]]))
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    model = build(fusion, head, 3)
    u, v = randn(n, 3), randn(m, 3, seed=1)
    with torch.no_grad():
        budget = data.draw(st.integers(1, 12)) * bytes_per_pair(model.fusion, model.head, u)
        rows, columns = block_size(model.fusion, model.head, u, v, budget, m)
        assert rows * columns * bytes_per_pair(model.fusion, model.head, u) <= budget
        assert_equal(model.score_embeddings(u, v, max_bytes=budget), paired(model, u, v), 1e-12)
    budget = data.draw(st.integers(1, 12)) * bytes_per_pair(model.fusion, model.head, u)
    assert_equal(model.score_embeddings(u, v, max_bytes=budget), paired(model, u, v), 1e-12)


@pytest.mark.parametrize("name", ["concat", "bilinear", "biaffine", "low-rank-bilinear", "mfb", "ntn"])
def test_two_widths(name):
    fusion = pf.make_fusion(name, 5, in2_features=2).double()
    left, right = nn.Linear(4, 5).double(), nn.Linear(3, 2).double()
    model = pf.SiameseComparator(left, fusion, "mlp", right_encoder=right).double()
    x1, x2 = randn(4, 4), randn(6, 3)
    with torch.no_grad():
        assert_equal(model.score_matrix(x1, x2), paired(model, left(x1), right(x2)), 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["product", "abs-diff", "symmetric", "max"])
def test_half_precision(name, dtype):
    model = build(name, HEADS["linear"], 8, dtype)
    u, v = randn(5, 8, dtype=dtype), randn(3, 8, seed=1, dtype=dtype)
    with torch.no_grad():
        scores = model.score_embeddings(u, v)
        due = paired(model.double(), u.double(), v.double())
    assert scores.dtype == dtype
    assert_equal(scores.double(), due, 8 * torch.finfo(dtype).eps)


def test_weights_that_are_zero_get_their_gradient():
    """A pruned weight of a distance: the kernel for all pairs would say nothing of it."""
    model = build("abs-diff", HEADS["linear"], 4)
    with torch.no_grad():
        model.head.weight[0, 1] = 0
    u, v = randn(3, 4), randn(3, 4, seed=1)
    due = torch.autograd.grad(paired(model, u, v).sum(), model.head.weight)[0]
    assert_equal(torch.autograd.grad(model.score_embeddings(u, v).sum(), model.head.weight)[0], due, 1e-12)
    assert due[0, 1] != 0


def test_a_common_offset_does_not_cancel_squared_differences():
    model = build("squared-diff", HEADS["linear"], 8, torch.float32)
    u, v = randn(5, 8, dtype=torch.float32) + 1000, randn(5, 8, seed=1, dtype=torch.float32) + 1000
    with torch.no_grad():
        due = paired(model.double(), u.double(), v.double())
        assert_equal(model.float().score_embeddings(u, v).double(), due, 1e-4)


def test_hooks_are_called():
    """What a user hangs on the fusion or the head changes the scores as it changes forward."""
    model = build("product", HEADS["linear"], 3)
    model.head.register_forward_hook(lambda module, inputs, output: output + 1)
    u, v = randn(2, 3), randn(2, 3, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v), paired(model, u, v), 1e-12)


def test_dropout_in_train_mode_is_not_skipped():
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    assert split_head(head) is None
    assert split_head(head.eval()) is not None
    assert split_head(nn.Sequential(nn.Identity(), nn.Linear(3, 1))) is not None
    assert split_head(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1))) is None


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
    budget = data.draw(st.integers(1, 20)) * bytes_per_pair(model.fusion, model.head, u)
    found = model.topk(u, v, k, exclude_self=exclude, max_bytes=budget)
    scores = model.score_matrix(u, v)
    if exclude:
        scores.fill_diagonal_(-torch.inf)
    due = scores.topk(k)
    torch.testing.assert_close(found.values, due.values)
    assert torch.equal(found.indices, due.indices)


def test_topk_over_several_chunks_of_the_gallery(monkeypatch):
    monkeypatch.setattr("pairfuse.scoring.CHUNK", 7)
    model = build("product", HEADS["linear"], 3)
    u, v = randn(5, 3), randn(50, 3, seed=1)
    values, indices = model.topk(u, v, k=10)
    due = model.score_matrix(u, v).topk(10)
    torch.testing.assert_close(values, due.values)
    assert torch.equal(indices, due.indices)


GOOD = randn(4, 3, dtype=torch.float32)
MODEL = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: MODEL.topk(GOOD, GOOD, 5), ValueError, "topk expects k of at most 4, the gallery's, got k=5"),
        (lambda: MODEL.topk(GOOD, GOOD, 4, exclude_self=True), ValueError, "at most 3, the gallery's others, got k=4"),
        (lambda: MODEL.topk(GOOD[:2], GOOD, 1, exclude_self=True), ValueError, "got 2 queries and a gallery of 4"),
        (lambda: MODEL.topk(GOOD, GOOD, 0), ValueError, "topk expects k to be at least 1, got 0"),
        (lambda: MODEL.topk(GOOD[:0], GOOD, 1), ValueError, "queries must hold at least one item, got none"),
        (lambda: MODEL.topk(GOOD, GOOD[:0], 1), ValueError, "gallery must hold at least one item, got none"),
        (lambda: MODEL.topk(GOOD, GOOD * torch.nan, 1), ValueError, "topk expects finite gallery, got 12 of 12 values"),
        (lambda: MODEL.score_matrix(GOOD, "x"), TypeError, "a Dataset or a DataLoader of items, got str"),
        (lambda: MODEL.score_matrix(GOOD, GOOD, max_bytes=1), ValueError, "max_bytes=1 is too small for a single pair"),
        (lambda: MODEL.score_matrix(GOOD, GOOD, max_bytes=0), ValueError, "expects max_bytes to be at least 1, got 0"),
        (
            lambda: MODEL.score_matrix(GOOD, GOOD, batch_size=0),
            ValueError,
            "expects batch_size to be at least 1",
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


def test_several_logits_have_no_order():
    model = pf.SiameseComparator(nn.Identity(), "product", nn.Linear(3, 2), embedding_dim=3)
    with pytest.raises(ValueError, match="topk expects a head with one output, got 2: use score_matrix"):
        model.topk(GOOD, GOOD, 1)


def test_no_embeddings_no_scores():
    assert MODEL.score_embeddings(GOOD[:0], GOOD).shape == (0, 4)
    assert MODEL.score_embeddings(GOOD, GOOD[:0]).shape == (4, 0)


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
    assert "encoding x1" in capsys.readouterr().err
    MODEL.score_matrix(GOOD, GOOD)
    assert capsys.readouterr().err == ""
