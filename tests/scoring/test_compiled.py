"""`compile=True`: the same scores from one fused kernel, and the ordinary way where there is no compiler."""

import warnings

import pytest
import torch
from scoring_cases import HEADS, assert_equal, build, cross, paired, randn
from torch import nn

import pairfuse as pf
from pairfuse.scoring import Scorer
from pairfuse.scoring import compiling as compiled


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


ONCE = {  # each kind of fusion and of head once
    ("product", "three logits"),
    ("abs-diff", "linear"),
    ("concat", "mlp"),
    ("symmetric", "hidden twice"),
    ("max", "linear"),
    ("ntn", "norm first"),
    ("bilinear", "mlp"),
}


@cross(
    ["product", "abs-diff", "concat", "symmetric", "max", "ntn", "bilinear"],
    ["linear", "mlp", "three logits", "hidden twice", "norm first"],
    lambda fusion, head: (fusion, head) in ONCE,
)
def test_compiled_scores_are_those_of_forward(compiler, fusion, head):
    model = build(fusion, head, 5)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for n, m in ((7, 3), (4, 9), (1, 1)):
            u, v = randn(n, 5), randn(m, 5, seed=1)
            assert_equal(model.score_embeddings(u, v, compile=True), paired(model, u, v), 1e-12)


@pytest.mark.parametrize("fusion", ["abs-diff", pytest.param("concat", marks=pytest.mark.slow)])
def test_compiled_gradients_are_those_of_forward(compiler, fusion):
    model = build(fusion, HEADS["mlp"], 5)
    u, v = randn(4, 5).requires_grad_(), randn(3, 5, seed=1).requires_grad_()
    tensors = [u, v, *model.parameters()]
    due = torch.autograd.grad(paired(model, u, v).square().sum(), tensors)
    found = torch.autograd.grad(model.score_embeddings(u, v, compile=True).square().sum(), tensors)
    for x, y in zip(found, due, strict=True):
        assert_equal(x, y, 1e-12)


def test_it_is_really_compiled_and_once_for_models_of_one_kind(compiler):
    """New weights, another number of rows: the kernel that is there."""
    torch._dynamo.utils.counters.clear()
    for seed in range(3):
        model = build("abs-diff", HEADS["linear"], 4)
        with torch.no_grad():
            model.head.weight.normal_(generator=torch.Generator().manual_seed(seed))
            for n in (3, 5, 8):
                model.score_embeddings(randn(n, 4), randn(n + 1, 4, seed=1), compile=True)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_no_array_of_all_differences_and_of_all_hidden_features():
    """A block is one tile: the budget that is too small for N × M × 64 numbers is not looked at for them."""
    u, v = randn(40, 8), randn(50, 8, seed=1)
    for fusion, head in (("concat", HEADS["mlp"]), ("abs-diff", HEADS["linear"])):
        model = build(fusion, head, 8).requires_grad_(False)
        assert Scorer(model.fusion, model.head, u, v, max_bytes=400_000, compile=True).block_size(40, 50) == (40, 50)


def test_topk_and_blocks_compile_too(compiler):
    model = build("abs-diff", HEADS["linear"], 4)
    u, v = randn(6, 4), randn(9, 4, seed=1)
    due = model.score_matrix(u, v)
    assert_equal(model.score_matrix(u, v, compile=True), due, 1e-12)
    assert torch.equal(model.topk(u, v, 3, compile=True).indices, due.topk(3).indices)
    for rows, columns, scores in model.iter_score_blocks(u, v, max_bytes=20_000, compile=True):
        assert_equal(scores, due[rows, columns], 1e-12)


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch):
    def fails(*args):
        raise RuntimeError("g++ not found\nand much more")

    monkeypatch.setattr(compiled, "_compiled", lambda: fails)
    model = build("symmetric", HEADS["mlp"], 4)
    u, v = randn(60, 4), randn(50, 4, seed=1)
    with pytest.warns(
        RuntimeWarning, match=r"torch.compile failed \(RuntimeError: g\+\+ not found\); scoring goes on"
    ) as told:
        scores = model.score_matrix(u, v, compile=True, max_bytes=100_000)
    assert len(told) == 1
    assert_equal(scores, model.score_matrix(u, v), 1e-12)


def test_where_torch_gives_up_nothing_large_is_made():
    """Called as ordinary code the kernel would hold all hidden features at once, so it refuses."""
    model = build("concat", HEADS["mlp"], 4).requires_grad_(False)
    u, v = randn(3, 4), randn(2, 4, seed=1)
    plan = Scorer(model.fusion, model.head, u, v, max_bytes=2**20).plan
    with pytest.raises(RuntimeError, match="more than 64 kinds of models"):
        compiled._score(plan, u, v, plan.factors(u, v))


def test_a_fusion_of_ones_own_is_fused_too(compiler):
    """Whatever is computed coordinate by coordinate becomes one kernel, though it has no factors."""

    class Canberra(pf.Fusion):
        symmetry, additive, xnor = "symmetric", False, "always"

        def fuse(self, u, v):
            return (u - v).abs() / (u.abs() + v.abs() + 1e-3)

    model = pf.SiameseComparator(nn.Identity(), Canberra(5)).double().eval()
    u, v = randn(4, 5), randn(3, 5, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v, compile=True), paired(model, u, v), 1e-12)
