"""`matches`: all pairs above a threshold, equal to brute force over the matrix of all scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_cases import FUSIONS
from torch import nn

import pairfuse as pf
from pairfuse.scoring import matches as module


def comparator(fusion="squared-diff", head="linear", right=None, width=3):
    """A comparator of the items themselves."""
    spec = FUSIONS.get(fusion, fusion)
    spec = spec(width) if callable(spec) else spec
    return pf.SiameseComparator(
        nn.Identity(), spec, head, right_encoder=right, embedding_dim=width, allow_additive=True
    ).eval()


def brute_force(scores, threshold, *, itself=False, halved=False):
    """Pairs and scores of a matrix, best first."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in scores.shape), indexing="ij")
    wanted = scores >= threshold
    if itself:
        wanted &= rows < columns if halved else rows != columns
    found = [(int(i), int(j), float(s)) for i, j, s in zip(rows[wanted], columns[wanted], scores[wanted], strict=True)]
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def assert_same(found, due):
    """The same pairs, with scores that differ by rounding only."""
    assert sorted(zip(found.left.tolist(), found.right.tolist(), strict=True)) == sorted(pair[:2] for pair in due)
    assert found.scores.tolist() == pytest.approx([pair[2] for pair in due], abs=1e-4)
    assert (found.scores.diff() <= 0).all()


def gap_near(scores, quantile):
    """A threshold that no score is near, so that rounding moves no pair across it."""
    ordered = scores.flatten().unique()
    place = int(quantile * (len(ordered) - 2))
    gaps = ordered.diff()[place:]
    best = place + int((gaps > 1e-3).int().argmax())
    return float(ordered[best] + ordered[best + 1]) / 2


@settings(max_examples=40)
@given(st.sampled_from([*FUSIONS]), st.sampled_from(["linear", "mlp"]), st.booleans(), st.integers(0, 10**6))
def test_they_are_those_of_the_matrix(fusion, head, tied, seed):
    """For every fusion, both heads, one encoder and two: of two sets, and of a set with itself."""
    torch.manual_seed(seed)
    model = comparator(fusion, head, None if tied else nn.Linear(3, 3))
    x, y = torch.randn(9, 3), torch.randn(13, 3)
    scores = model.score_matrix(x, y)
    threshold = gap_near(scores, 0.6)
    assert_same(model.matches(x, y, threshold=threshold), brute_force(scores, threshold))
    scores = model.score_matrix(x, x)
    threshold = gap_near(scores, 0.6)
    due = brute_force(scores, threshold, itself=True, halved=model.symmetric)
    assert_same(model.matches(x, threshold=threshold), due)


@pytest.mark.parametrize("fusion", ["squared-diff", "bilinear"])
def test_tiles_do_not_matter(fusion, monkeypatch):
    """Small tiles, also of widths that are no multiple of a segment."""
    torch.manual_seed(0)
    x = torch.randn(150, 3)
    model = comparator(fusion)
    whole = model.matches(x, threshold=-0.5)
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(module, "COLUMNS", 67)
    tiles = model.matches(x, threshold=-0.5)
    assert len(tiles.left) > 100
    pairs = [set(zip(x.left.tolist(), x.right.tolist(), strict=True)) for x in (tiles, whole)]
    assert pairs[0] == pairs[1]
    torch.testing.assert_close(tiles.scores, whole.scores)


def test_ties_are_sorted_by_position():
    """Equal scores come in the order of the left, then of the right item."""
    found = comparator().matches(torch.zeros(4, 3), threshold=0.0)
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == [
        *((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]


def test_the_parts_are_the_whole():
    """`iter_matches` gives the same pairs, in another order."""
    torch.manual_seed(0)
    x, y = torch.randn(700, 3), torch.randn(60, 3)
    model = comparator()
    for sets in ((x,), (x, y)):
        whole = model.matches(*sets, threshold=0.5)
        parts = [*model.iter_matches(*sets, threshold=0.5)]
        pairs = {pair for part in parts for pair in zip(part.left.tolist(), part.right.tolist(), strict=True)}
        assert pairs == set(zip(whole.left.tolist(), whole.right.tolist(), strict=True))
        assert sum(len(part.left) for part in parts) == len(pairs)


def test_a_gallery_and_the_decision():
    """The default threshold is that of the decision; a gallery is asked with other items, and with itself."""
    torch.manual_seed(0)
    labels = torch.arange(200) % 50
    x = torch.randn(50, 3)[labels] + 0.1 * torch.randn(200, 3)
    model = comparator().train()
    model.decision = pf.evaluate(model, x, labels).decide(far=0.01)
    gallery = pf.Gallery(model, x)
    for found in (gallery.matches(), model.matches(x), model.matches(gallery)):
        assert_same(found, brute_force(model.score_matrix(x, x), model.decision.threshold, itself=True, halved=True))
    due = brute_force(model.score_matrix(x[:5], x), model.decision.threshold)
    for found in (gallery.matches(x[:5]), model.matches(x[:5], gallery)):
        assert_same(found, due)
    assert model.training


def test_none():
    """Nothing reaches the threshold: three empty tensors."""
    found = comparator().matches(torch.randn(9, 3), threshold=100.0)
    assert [x.shape for x in found] == [(0,)] * 3
    assert found.groups(9).tolist() == [*range(9)]


def test_half_precision():
    """Scores are compared in float32, also with a threshold that half precision cannot hold."""
    x = torch.tensor([[0.0] * 3, [0.1] * 3], dtype=torch.bfloat16)
    model = comparator().to(torch.bfloat16)
    score = float(model.score_matrix(x, x)[0, 1])
    assert len(model.matches(x, threshold=score - 1e-4).left) == 1
    assert len(model.matches(x, threshold=score + 1e-4).left) == 0


def test_too_many():
    """The error suggests a threshold that leaves few enough."""
    torch.manual_seed(0)
    x = torch.randn(1500, 3)
    model = comparator()
    with pytest.raises(ValueError, match=r"at most max_matches=1,000, got .* after .* % of the pairs: .*iter_matches"):
        model.matches(x, threshold=-5.0, max_matches=1000)
    with pytest.raises(ValueError, match="threshold, such as") as caught:
        model.matches(x, threshold=-5.0, max_matches=1000)
    suggested = float(str(caught.value).split("such as ")[1].split(",")[0])
    assert 500 < len(model.matches(x, threshold=suggested).left) < 1500


def test_groups():
    """Connected components; a chain that joins too many items is warned of."""
    x = torch.tensor([[0.0], [0.1], [5.0], [0.2], [5.1], [9.0]])
    found = comparator(width=1).matches(x, threshold=0.0)
    assert found.groups(6).tolist() == [0, 0, 1, 0, 1, 2]
    chain = torch.arange(40.0)[:, None] / 8
    found = comparator(width=1).matches(torch.cat([chain, 100 + 50 * chain]), threshold=0.0)
    with pytest.warns(UserWarning, match="one group holds 40 of 80 items"):
        found.groups(80)
    with pytest.raises(ValueError, match="a set of 30 items with itself, got a match of item 39"):
        found.groups(30)


def test_tables():
    """As pandas and pyarrow hold them."""
    pytest.importorskip("pandas")
    found = comparator().matches(torch.zeros(3, 3), threshold=0.0)
    assert found.to_pandas()["right"].tolist() == [1, 2, 2]
    pytest.importorskip("pyarrow")
    assert found.to_arrow().column("left").to_pylist() == [0, 0, 1]


def test_what_is_refused():
    """One clear error each, before anything is encoded where that is possible."""
    x, model = torch.randn(4, 3), comparator()
    with pytest.raises(ValueError, match=r"matches expects threshold=\.\.\., or a model with a decision, got neither"):
        model.matches(x)
    with pytest.raises(ValueError, match="threshold to be a number, got NaN"):
        model.matches(x, threshold=float("nan"))
    with pytest.raises(TypeError, match="threshold to be a number, got '1'"):
        model.matches(x, threshold="1")
    with pytest.raises(ValueError, match="max_matches to be at least 1, got 0"):
        model.matches(x, threshold=0.0, max_matches=0)
    with pytest.raises(ValueError, match="matches expects finite x1, got 3 of 12"):
        model.matches(x.index_fill(0, torch.tensor([1]), torch.nan), threshold=0.0)
    with pytest.raises(ValueError, match="matches expects finite scores, got NaN"):
        model.matches(x * 1e30, threshold=0.0)
    with pytest.raises(ValueError, match="a head with one output, got 2: use iter_score_blocks"):
        comparator(head=nn.Linear(3, 2)).matches(x, threshold=0.0)
    with pytest.raises(ValueError, match="max_bytes=10 is too small for a single pair"):
        model.matches(x, threshold=0.0, max_bytes=10)
    untied = comparator(right=nn.Linear(3, 3))
    with pytest.raises(ValueError, match="a Gallery holds right embeddings"):
        pf.Gallery(untied, x).matches(threshold=0.0)
