"""All pairs at once: equal to `forward` on every pair, in values and gradients, in bounded memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_cases import (
    FUSIONS,
    HEADS,
    assert_equal,
    build,
    each_fusion,
    each_fusion_and_head,
    least_budget,
    paired,
    randn,
)
from torch import nn

import pairfuse as pf
from pairfuse.fusions import Diff, SquaredDiff, Stack, Symmetrized
from pairfuse.heads import split_head
from pairfuse.scoring import Scorer


@each_fusion_and_head
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


@each_fusion_and_head
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
    assert model.score_embeddings(*given, max_bytes=1).requires_grad  # everything is kept: no budget could hold


@each_fusion
@settings(max_examples=20)
@given(data=st.data())
def test_blocks_and_tiles_do_not_change_a_score(fusion, data):
    """Whatever the budget, and whatever blocks and tiles it makes, down to a pair each."""
    head = data.draw(st.sampled_from([HEADS["linear"], HEADS["mlp"], HEADS["norm first"], HEADS["three logits"]]))
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    model = build(fusion, head, 3)
    u, v = randn(n, 3), randn(m, 3, seed=1)
    with torch.no_grad():
        budget = least_budget(model, u, v) + data.draw(st.sampled_from([0, 100, 1000, 10_000]))
        due = paired(model, u, v)
        assert_equal(model.score_embeddings(u, v, max_bytes=budget), due, 1e-12)
        table = torch.full_like(due, torch.nan)
        for rows, columns, scores in model.iter_score_blocks(u, v, max_bytes=budget):
            assert table[rows, columns].isnan().all()
            table[rows, columns] = scores
        assert_equal(table, due, 1e-12)


@pytest.mark.parametrize("name", ["concat", "bilinear", "biaffine", "low-rank-bilinear", "mfb", "ntn"])
def test_two_widths(name):
    fusion = pf.make_fusion(name, 5, in2_features=2).double()
    left, right = nn.Linear(4, 5).double(), nn.Linear(3, 2).double()
    model = pf.SiameseComparator(left, fusion, "mlp", right_encoder=right).double()
    x1, x2 = randn(4, 4), randn(6, 3)
    with torch.no_grad():
        assert_equal(model.score_matrix(x1, x2), paired(model, left(x1), right(x2)), 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["product", "abs-diff", "symmetric", "max", "squared-diff", "bilinear", "ntn"])
def test_half_precision(name, dtype):
    model = build(name, HEADS["linear"], 8, dtype)
    u, v = randn(5, 8, dtype=dtype), randn(3, 8, seed=1, dtype=dtype)
    with torch.no_grad():
        scores = model.score_embeddings(u, v)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}  # a copy was widened
        due = paired(model.double(), u.double(), v.double())
    assert scores.dtype == dtype
    assert_equal(scores.double(), due, torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype):
    """256 squares of 16 overflow float16, and bfloat16 cannot hold their sum beside a small difference."""
    model = build("squared-diff", HEADS["no bias"], 256, dtype)
    u = (randn(5, 256) + 16).to(dtype)
    v = (u + randn(5, 256, seed=1) / 16).to(dtype)
    with torch.no_grad():
        scores = model.score_embeddings(u, v)
        due = paired(model.double(), u.double(), v.double())
    assert_equal(scores.double(), due, torch.finfo(dtype).eps)


def test_half_precision_with_gradients_is_forward():
    model = build("symmetric", HEADS["linear"], 8, torch.bfloat16)
    u, v = randn(5, 8, dtype=torch.bfloat16), randn(3, 8, seed=1, dtype=torch.bfloat16)
    scores = model.score_embeddings(u, v)
    assert scores.requires_grad
    assert torch.equal(scores, paired(model, u, v))


def test_under_autocast_scores_are_of_float32():
    model = build("product", HEADS["linear"], 64, torch.float32)
    u, v = randn(5, 64, dtype=torch.float32), randn(3, 64, seed=1, dtype=torch.float32)
    with torch.no_grad():
        due = model.score_embeddings(u, v)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.score_embeddings(u, v), due)
            assert model.score_embeddings(u.bfloat16(), v.bfloat16()).dtype == torch.float32


def test_weights_that_are_zero_get_their_gradient():
    """A pruned weight of a distance: the kernel for all pairs would say nothing of it."""
    model = build("abs-diff", HEADS["linear"], 4)
    with torch.no_grad():
        model.head.weight[0, 1] = 0
    u, v = randn(3, 4), randn(3, 4, seed=1)
    due = torch.autograd.grad(paired(model, u, v).sum(), model.head.weight)[0]
    assert_equal(torch.autograd.grad(model.score_embeddings(u, v).sum(), model.head.weight)[0], due, 1e-12)
    assert due[0, 1] != 0


@pytest.mark.parametrize(
    "fusion",
    [
        "squared-diff",
        lambda width: Stack([SquaredDiff(width), Diff(width)]),
        lambda width: Symmetrized(Stack([SquaredDiff(width), Stack([SquaredDiff(width)])])),
    ],
    ids=["alone", "in a stack", "in stacks, made symmetric"],
)
def test_a_common_offset_does_not_cancel_squared_differences(fusion):
    model = build(fusion, HEADS["linear"], 8, torch.float32)
    u, v = randn(5, 8, dtype=torch.float32) + 1000, randn(5, 8, seed=1, dtype=torch.float32) + 1000
    with torch.no_grad():
        due = paired(model.double(), u.double(), v.double())
        assert_equal(model.float().score_embeddings(u, v).double(), due, 1e-4)


@pytest.mark.parametrize(("fusion", "compile"), [("abs-diff", False), ("abs-diff", True), ("diff", False)])
def test_a_common_offset_does_not_spoil_differences(fusion, compile, request):
    """Differences of 0.01 at 1000, which float32 keeps to four digits: they are as near to the truth as forward is."""
    if compile:
        request.getfixturevalue("compiler")
    model = build(fusion, HEADS["no bias"], 64, torch.float32)
    u, v = 1000 + randn(6, 64) / 100, 1000 + randn(7, 64, seed=1) / 100
    u, v = u.float(), v.float()
    with torch.no_grad():
        scores, by_pair = model.score_embeddings(u, v, compile=compile).double(), paired(model, u, v).double()
        due = paired(model.double(), u.double(), v.double())
    assert (scores - due).abs().max() <= 4 * (by_pair - due).abs().max() + 1e-7


def test_what_is_not_finite_stays_where_it_is():
    """A bad row of either side spoils its own scores, a bad weight all of them, and nothing hides it."""
    for fusion in ("squared-diff", "abs-diff", "product"):
        model = build(fusion, HEADS["linear"], 4)
        u, v = randn(3, 4), randn(5, 4, seed=1)
        v[2, 1] = torch.nan
        with torch.no_grad():
            assert torch.equal(model.score_embeddings(u, v).isnan(), paired(model, u, v).isnan())
            model.head.weight[0, 3] = torch.nan
            assert model.score_embeddings(u, v).isnan().all()


@pytest.mark.parametrize("head", ["linear", "mlp", "three logits", "norm first"])
@pytest.mark.parametrize("fusion", ["product", "ntn", "symmetric", "PowerNormalized"])
def test_no_embeddings_no_scores(fusion, head):
    model = build(FUSIONS[fusion], HEADS[head], 3)
    outputs = (3,) if head == "three logits" else ()
    with torch.no_grad():
        assert model.score_embeddings(randn(0, 3), randn(4, 3)).shape == (0, 4, *outputs)
        assert model.score_embeddings(randn(4, 3), randn(0, 3)).shape == (4, 0, *outputs)


def test_backward_hooks_are_called():
    model = build("product", HEADS["linear"], 3)
    called = []
    model.head.register_full_backward_hook(lambda *arguments: called.append(1))
    model.score_embeddings(randn(2, 3).requires_grad_(), randn(2, 3, seed=1)).sum().backward()
    assert called


def test_a_layer_that_flattens_later_is_kept():
    head = nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(12, 1))
    model = build("product", lambda f: head, 3)
    u, v = randn(3, 3), randn(4, 3, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v), paired(model, u, v), 1e-12)


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


def test_linear_layers_in_a_row_are_one():
    head = nn.Sequential(nn.Linear(5, 4), nn.Dropout(), nn.Linear(4, 2, bias=False), nn.Linear(2, 3), nn.ReLU()).eval()
    split = split_head(head)
    assert (split.weight.shape, [type(layer) for layer in split.rest]) == ((2, 5), [nn.Linear, nn.ReLU])
    x = torch.randn(7, 5)
    torch.testing.assert_close(nn.functional.linear(x, split.weight, split.bias), head[:4][:3](x))


def test_features_are_scored_before_a_wide_layer():
    """One matrix product for a bilinear form under a hidden layer of 64, not 64."""
    model = build("bilinear", HEADS["mlp"], 8)
    scorer = Scorer(model.fusion, model.head, randn(2, 8), randn(3, 8), max_bytes=2**20)
    assert [part.left.shape for part in scorer.plan.factors(randn(2, 8), randn(3, 8))] == [(1, 2, 8)]
