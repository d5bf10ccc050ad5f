"""What the XOR page claims, where no other test does: `docs/why-concatenation-fails.md` names these tests."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pairfuse as pf
from pairfuse.testing.strategies import GRID, vectors
from pairfuse.xnor import class_certificate

ROOT = Path(__file__).parents[2]
bce = nn.functional.binary_cross_entropy_with_logits
SAME = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()


@given(st.lists(GRID, min_size=2, max_size=2), st.lists(GRID, min_size=2, max_size=2))
def test_ln_2_is_reached_only_where_all_four_logits_are_zero(g, h):
    logits = torch.tensor(g).double()[:, None] + torch.tensor(h).double()
    assert (bce(logits, SAME) <= math.log(2) + 1e-12) == bool((logits == 0).all())


def test_three_logits_read_together_are_another_matter():
    """First larger, equal, second larger: additive logits and a softmax; of two logits it reads one sum."""
    x1, x2 = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    logits = torch.stack([x1 - x2, torch.full_like(x1, 0.5), x2 - x1], dim=-1)
    assert logits.argmax(-1).tolist() == [1, 2, 0, 1]
    two = logits[:, :2]
    torch.testing.assert_close(two.softmax(-1)[:, 1], (two[:, 1] - two[:, 0]).sigmoid())


def fit_sum(weights):
    """The lowest cross-entropy of a_i + b_j on pairs of two colors, weighted."""
    a, b = torch.zeros(2, 1).double().requires_grad_(), torch.zeros(1, 2).double().requires_grad_()
    optimizer = torch.optim.LBFGS([a, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = bce(a + b, SAME, weight=weights, reduction="sum")
        loss.backward()
        return loss

    optimizer.step(closure)
    return closure().item()


def test_with_a_rare_colour_a_sum_is_below_the_entropy_of_the_answers():
    """One image of ten is black: the share of same pairs is 0.82, and the sum gains by guessing from frequencies."""
    share = torch.tensor([0.9, 0.1]).double()
    prior = (share**2).sum().item()
    entropy = -prior * math.log(prior) - (1 - prior) * math.log(1 - prior)
    assert fit_sum(share[:, None] * share) < 0.9 * entropy
    assert fit_sum(torch.full((2, 2), 0.25).double()) == pytest.approx(math.log(2))


def train(model, x1, x2, y, steps=300, lr=1e-2):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        bce(model(x1, x2), y).backward()
        optimizer.step()
    return model


def test_a_sum_can_memorise_pairs_of_items_that_come_once():
    """All training pairs right, those of new items at chance, and the two items and their four pairs never."""

    def draw(count):
        colors = torch.randint(2, (2, count, 1)) * 2.0 - 1
        items = torch.cat([colors, torch.randn(2, count, 300)], dim=-1)
        return *items, (colors[0] == colors[1]).squeeze(1).float()

    x1, x2, y = draw(100)
    model = train(pf.SiameseComparator(nn.Linear(301, 301), "concat", allow_additive=True), x1, x2, y)
    assert ((model(x1, x2) > 0) == (y > 0.5)).all()
    x1, x2, y = draw(1000)
    assert abs(((model(x1, x2) > 0) == (y > 0.5)).float().mean() - 0.5) < 0.1
    items = torch.eye(301)[:1] * torch.tensor([[1.0], [-1.0]])
    logits = model(items[[0, 0, 1, 1]], items[[0, 1, 0, 1]]).double()
    assert bce(logits, SAME.flatten()) > math.log(2) - 1e-6


def test_a_hidden_layer_after_a_concatenation_learns():
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3, 8))
    model = train(pf.SiameseComparator(encoder, "concat", "mlp"), x1, x2, y)
    assert (model.predict_proba(x1, x2) - y).abs().max() < 0.1


@given(vectors(3), GRID.filter(lambda factor: factor >= 0))
def test_product_cannot_tell_one_direction_from_itself_nor_from_zero(a, factor):
    assert pf.xnor_margin("product", a, factor * a) == 0


@given(vectors(3), vectors(3))
def test_product_tells_apart_on_the_unit_sphere(a, b):
    """Of different embeddings of one length, also where they differ by their sign only."""
    if not a.any() or not b.any():
        return
    a, b = a / a.norm(), b / b.norm()
    if (a - b).norm() > 1e-3:
        assert pf.xnor_margin("product", a, b) > 0
        assert (a * a).sum() > (a * b).sum()  # weights of 1 will do


@given(st.lists(vectors(3), min_size=2, max_size=4), st.integers(1, 7))
def test_product_cannot_tell_a_mixture_from_its_parts(items, eighths):
    """Let c = λ a + (1 − λ) b: then c ∘ c = λ (c ∘ a) + (1 − λ) (c ∘ b), a same pair among different ones."""
    mixture = (eighths * items[0] + (8 - eighths) * items[1]) / 8
    embeddings = torch.stack([*items, mixture])
    if len(embeddings.unique(dim=0)) == len(embeddings):
        assert not class_certificate("product", embeddings, torch.arange(len(embeddings))).separable


def test_of_two_identical_inputs_a_distance_shows_the_bias_only():
    """A layer without one stays at probability ½ for good."""
    x = torch.randn(5, 4)
    for fusion in ("abs-diff", "squared-diff"):
        head = nn.Linear(4, 1)
        model = pf.SiameseComparator(nn.Linear(4, 4), fusion, head)
        torch.testing.assert_close(model(x, x), head.bias.expand(5))
        assert (
            pf.SiameseComparator(nn.Linear(4, 4), fusion, nn.Linear(4, 1, bias=False)).predict_proba(x, x) == 0.5
        ).all()


@pytest.mark.parametrize("fusion", ["abs-diff", "squared-diff"])
def test_a_distance_without_bias_stands_at_half_of_ln_2(fusion):
    """The two same pairs at ln 2 each, whatever is trained; the two different ones tend to 0."""
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3, 8))
    model = train(pf.SiameseComparator(encoder, fusion, nn.Linear(8, 1, bias=False)), x1, x2, y, lr=3e-2)
    losses = bce(model(x1, x2), y, reduction="none")
    assert losses[y == 1].tolist() == pytest.approx([math.log(2)] * 2)
    assert losses.mean().item() == pytest.approx(math.log(2) / 2, abs=1e-3)
    assert losses.mean() >= math.log(2) / 2


def test_a_bias_moves_one_learning_rate_a_step():
    """From 0, with Adam at 1e-3: p(same) is still near ½ when p(different) has long been near 0."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3, 256))
    model = pf.SiameseComparator(encoder, "abs-diff", nn.Linear(256, 1))
    nn.init.zeros_(model.head.bias)
    x1, x2, y = pf.data.BlackWhitePairs(size=1).truth_table()
    train(model, x1, x2, y, steps=80, lr=1e-3)
    assert 0 < model.head.bias.item() < 0.1
    p = model.predict_proba(x1, x2)
    assert (p[y == 1] < 0.53).all()
    assert (p[y == 0] < 0.01).all()


def test_every_test_that_a_page_names_exists():
    """Pages say which test checks a claim, as `tests/file.py::name`."""
    named = {
        (path, name)
        for page in (ROOT / "docs").glob("**/*.md")
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    }
    assert len(named) > 10
    for path, name in named:
        assert re.search(rf"^def {name}\(" if name else "", (ROOT / path).read_text(), re.MULTILINE), (path, name)
