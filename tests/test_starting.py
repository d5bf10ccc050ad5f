"""The start of named heads: `start_head`, its laws for scale, and that it is saved, copied and scored everywhere."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse._starting import start_from_batch, wants_start

WIDTH = 16
ABLE = [name for name in pf.list_fusions() if not pf.make_fusion(name, 2).additive]
# Multiplying the embeddings by a constant does not change the order of their scores.
HOMOGENEOUS = ["abs-diff", "squared-diff", "product", "max", "min", "cosine", "quadratic", "bilinear"]


def make(fusion="product", head="linear", seed=0, **options):
    torch.manual_seed(seed)
    return pf.SiameseComparator(nn.Identity(), fusion, head, embedding_dim=WIDTH, **options).double()


def draw(count=64, seed=1, offset=0.5, noise=0.3):
    """Pairs with a common offset; even rows are different, odd rows the same."""
    g = torch.Generator().manual_seed(seed)
    x1, other, change = (torch.randn(count, WIDTH, generator=g, dtype=torch.float64) for _ in range(3))
    y = torch.arange(count, dtype=torch.float64) % 2
    return x1 + offset, torch.where(y[:, None] > 0, x1 + noise * change, other) + offset, y


def train(model, x1, x2, y, steps=30, lr=1e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x1, x2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def auc(logits, y):
    return float((logits[y == 1][:, None] > logits[y == 0]).double().mean())


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("fusion", ABLE)
def test_the_scale_of_the_embeddings_changes_neither_the_start_nor_the_training(fusion, head):
    """At 0.01 and 100 times the size: the same first logits, and nearly the same ones after 30 steps."""
    x1, x2, y = draw()
    first, last = [], []
    for scale in (0.01, 1, 100):
        model = make(fusion, head)
        model.start_head(scale * x1, scale * x2, y)
        first.append(model(scale * x1, scale * x2).detach())
        last.append(train(model, scale * x1, scale * x2, y)(scale * x1, scale * x2).detach())
    for logits in (first[0], first[2]):
        torch.testing.assert_close(logits, first[1], atol=1e-8, rtol=1e-8)
    for logits in (last[0], last[2]):
        torch.testing.assert_close(logits, last[1], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("fusion", ["product", "abs-diff", "squared-diff", "cosine", "symmetric", "quadratic"])
@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_training_does_not_lose_the_ranking_of_the_start(fusion, scale):
    """300 steps at 1e-3 on new pairs, judged on others: at least as good as before."""
    t1, t2, t = draw(1000, seed=-1, offset=1.0, noise=0.7)
    model = make(fusion)
    before = auc(model(t1, t2), t)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(300):
        x1, x2, y = draw(seed=step, offset=1.0, noise=0.7)
        if step == 0:
            model.start_head(scale * x1, scale * x2, y)
        loss = nn.functional.binary_cross_entropy_with_logits(model(scale * x1, scale * x2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert auc(model(scale * t1, scale * t2), t) > before - 0.005


@pytest.mark.parametrize("fusion", HOMOGENEOUS)
@pytest.mark.parametrize("labeled", [True, False])
def test_the_order_of_the_scores_stays(fusion, labeled):
    x1, x2, y = draw()
    model = make(fusion)
    order = model(30 * x1, 30 * x2).argsort()
    model.start_head(30 * x1, 30 * x2, y if labeled else None)
    assert torch.equal(model(30 * x1, 30 * x2).argsort(), order)


@pytest.mark.parametrize(("fusion", "gap"), [("squared-diff", 6), ("symmetric", 6), ("bilinear", 0)])
@pytest.mark.parametrize("tied", [True, False])
def test_with_targets_the_threshold_lies_half_way(fusion, gap, tied):
    """Same and different pairs are 6 logits apart if they are separated, and little if not."""
    model = make(fusion, right_encoder=None if tied else nn.Identity())
    x1, x2, y = draw(offset=5.0, noise=0.1)
    model.start_head(x1, x2, y)
    same, different = (model(x1, x2).detach()[y == value].mean() for value in (1, 0))
    assert (same + different).item() == pytest.approx(0, abs=1e-9)
    assert not tied or abs(same - different).item() == pytest.approx(gap, abs=0.3)


def test_a_part_of_a_stack_that_does_not_separate_becomes_small():
    """Under [u, v, |u − v|] the weights of u and v are noise."""
    x1, x2, y = draw(noise=0.1)
    model = make("sbert")
    before = model.head.weight.abs().detach()
    model.start_head(x1, x2, y)
    factors = (model.head.weight.abs().detach() / before)[0]
    assert factors[: 2 * WIDTH].max() < 0.2 * factors[2 * WIDTH :].min()
    assert factors[:WIDTH].std() == pytest.approx(0, abs=1e-9)


def test_without_targets_the_quantiles_are_four_apart_and_zero_is_half_way():
    model = make("abs-diff")
    x1, x2, _ = draw()
    model.start_head(x1, x2)
    low, high = torch.quantile(model(x1, x2), torch.tensor([0.05, 0.95], dtype=torch.float64))
    assert (low.item(), high.item()) == (pytest.approx(-2), pytest.approx(2))


def test_scores_that_say_nothing_become_small_logits():
    """Calibrated logits of classes that are not apart are near 0; a large scale would only slow the training."""
    x1, x2, y = draw()
    model = make("bilinear")
    with torch.no_grad():
        model.fusion.weight.mul_(1000)
    model.start_head(x1, x2, y)
    assert model(x1, x2).std() < 1


def test_an_inverted_start_stays_inverted_with_small_logits():
    """Signs are kept: the user sees it, and training can turn it."""
    model = make("abs-diff")
    x1, x2, y = draw()
    model.start_head(x1, x2, 1 - y)
    logits = model(x1, x2)
    assert auc(logits, 1 - y) < 0.05
    assert logits.std() < 0.5
    assert auc(train(model, x1, x2, 1 - y, steps=300)(x1, x2), 1 - y) > 0.9


def test_the_same_batch_again_changes_nothing():
    x1, x2, y = draw()
    model = make("symmetric")
    model.start_head(x1, x2, y)
    logits = model(x1, x2)
    model.start_head(x1, x2, y)
    torch.testing.assert_close(model(x1, x2), logits)


def test_a_started_model_is_saved_copied_and_exported():
    x1, x2, y = draw()
    model = make("symmetric")
    model.start_head(7 * x1, 7 * x2, y)
    logits = model(7 * x1, 7 * x2)
    fresh = make("symmetric", seed=5)
    fresh.load_state_dict(model.state_dict())
    exported = torch.export.export(model, (7 * x1, 7 * x2)).module()
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), exported):
        torch.testing.assert_close(other(7 * x1, 7 * x2), logits)
    assert not wants_start(fresh)


def test_a_state_from_before_loads_and_is_not_to_be_started():
    old = make().state_dict()
    del old["embedding_scale"], old["head_started"]
    model = make(seed=3)
    assert wants_start(model)
    model.load_state_dict(old)
    assert model.embedding_scale == 1
    assert not wants_start(model)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("fusion", ABLE)
def test_all_pairs_equal_forward_after_the_start(fusion, head):
    x1, x2, y = draw(12)
    model = make(fusion, head)
    model.start_head(50 * x1, 50 * x2, y)
    expected = torch.stack([model(50 * x.expand_as(x2), 50 * x2) for x in x1]).detach()
    gallery = pf.Gallery(model, 50 * x2)
    for scores in (model.score_embeddings(50 * x1, 50 * x2), gallery.scores(50 * x1)):
        torch.testing.assert_close(scores.detach(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gallery.topk(50 * x1, 3).values, expected.topk(3).values, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("fusion", ["product", "squared-diff", "biaffine", "quadratic"])
def test_inner_products_equal_forward_after_the_start(fusion):
    x1, x2, y = draw(12)
    model = make(fusion)
    model.start_head(50 * x1, 50 * x2, y)
    for origin in (None, 50 * x2.mean(0)):
        form = model.inner_product_form(origin=origin)
        scores = form.to_query(50 * x1) @ form.to_gallery(50 * x2).T + form.constant
        torch.testing.assert_close(scores, model.score_embeddings(50 * x1, 50 * x2).detach(), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_models_start_too(dtype):
    x1, x2, y = draw(noise=0.1)
    model = make("symmetric").to(dtype)
    model.start_head(x1.to(dtype), x2.to(dtype), y)
    logits = model(x1.to(dtype), x2.to(dtype)).double()
    assert logits[y == 1].mean() > 1 > -1 > logits[y == 0].mean()


def test_a_loss_starts_it_from_all_pairs_of_its_first_batch():
    labels = torch.arange(40) // 4
    centers = torch.randn(10, WIDTH, dtype=torch.float64)
    u = 100 * (centers[labels] + 0.2 * torch.randn(40, WIDTH, dtype=torch.float64) + 1)
    model = make("squared-diff")
    assert wants_start(model)
    assert start_from_batch("loss", model, u, labels)
    assert not wants_start(model)
    scores = model.score_embeddings(u, u)
    apart, same = ~torch.eye(40, dtype=bool), labels[:, None] == labels
    middle = (scores[apart & same].mean() + scores[~same].mean()).item()
    assert middle == pytest.approx(0, abs=1e-6)  # an item with itself is no pair
    assert scores[apart & same].mean() > 2
    assert scores[~same].mean() < -2
    assert model.head.weight.grad_fn is None


def test_a_loss_starts_it_from_two_sides_and_leaves_unlabeled_items_out():
    labels = torch.arange(20) // 2
    u = torch.randn(10, WIDTH, dtype=torch.float64)[labels]
    v = u + 0.1 * torch.randn_like(u)
    with_unlabeled, without = make(), make()
    some = labels.clone()
    some[:3] = -1
    assert start_from_batch("loss", with_unlabeled, u, some, v, some)
    assert start_from_batch("loss", without, u[3:], labels[3:], v[3:], labels[3:])
    torch.testing.assert_close(with_unlabeled.state_dict(), without.state_dict())


def test_a_batch_without_information_changes_nothing():
    model = make()
    state = copy.deepcopy(model.state_dict())
    same = torch.ones(5, WIDTH, dtype=torch.float64)
    assert not start_from_batch("loss", model, same, torch.arange(5))
    assert not start_from_batch("loss", model, same, torch.full((5,), -1))
    assert not start_from_batch("loss", model, same[:1], torch.arange(1))
    torch.testing.assert_close(model.state_dict(), state)
    assert wants_start(model)


def test_a_head_of_your_own_is_left_alone():
    x1, x2, y = draw()
    model = pf.SiameseComparator(nn.Identity(), "product", nn.Linear(WIDTH, 1), embedding_dim=WIDTH)
    assert not wants_start(model)
    assert set(model.state_dict()) == {"fusion._extra_state", "head.weight", "head.bias"}
    with pytest.raises(TypeError, match="start_head expects a head that was built by name, such as head='linear', got"):
        model.start_head(x1.float(), x2.float(), y)


@pytest.mark.parametrize("change", ["replaced", "parametrized"])
def test_a_named_head_that_was_changed_is_left_alone(change):
    x1, x2, y = draw()
    model = make()
    if change == "replaced":
        model.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1)).double()
    else:
        nn.utils.parametrizations.weight_norm(model.head)
    assert not wants_start(model)
    with pytest.raises(TypeError, match="built by name"):
        model.start_head(x1, x2, y)


def test_a_ranking_is_not_started():
    x1, x2, y = draw()
    model = make("diff", allow_additive=True)
    assert not wants_start(model)
    with pytest.raises(ValueError, match=r"can tell same from different, got Diff with an affine head, which is add"):
        model.start_head(x1, x2, y)


X1, X2, Y = draw(6)
BAD = {
    "equal": (torch.ones_like(X1), torch.ones_like(X1), Y, "expects scores that differ, got 6 equal ones"),
    "zero": (0 * X1, 0 * X1, Y, "expects scores that differ, got 6 equal ones"),
    "NaN": (X1 / 0 * 0, X2, Y, "start_head expects finite embeddings, got 96 of 96 values NaN or infinite"),
    "one": (X1[:1], X2[:1], None, "start_head expects a batch of at least 2 pairs, got 1"),
    "one class": (X1, X2, Y * 0, "expects y with same and different pairs, got 0 same and 6 different ones: pass"),
    "other values": (X1, X2, Y * 2, "expects y of 1 (same) and 0 (different), got values from 0.0 to 2.0"),
    "shape": (X1, X2, Y[:, None], "expects y of shape (6,), one target for each pair, got shape (6, 1)"),
}


@pytest.mark.parametrize(("x1", "x2", "y", "message"), BAD.values(), ids=BAD)
def test_bad_batches(x1, x2, y, message):
    model = make("squared-diff")
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        model.start_head(x1, x2, y)
    torch.testing.assert_close(model.state_dict(), state)


def test_embeddings_too_small_for_their_dtype():
    model = make().half()
    with pytest.raises(ValueError, match=r"expects embeddings whose size torch.float16 can invert, got coordinates of"):
        model.start_head((1e-6 * X1).half(), (1e-6 * X2).half(), Y)


@pytest.mark.parametrize("fusion", ["squared-diff", "abs-diff"])
def test_a_fusion_of_differences_does_not_see_an_offset(fusion):
    x1, x2, y = draw()
    near, far = make(fusion), make(fusion)
    near.start_head(x1, x2, y)
    far.start_head(x1 + 50, x2 + 50, y)
    assert far.embedding_scale.item() == pytest.approx(near.embedding_scale.item())
    torch.testing.assert_close(far(x1 + 50, x2 + 50), near(x1, x2))


def test_the_state_of_an_encoder_alone_says_nothing_about_the_head():
    model = pf.SiameseComparator(nn.Linear(8, 8), "product")
    encoder = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    found = model.load_state_dict(encoder, strict=False)
    assert not model.head_started
    assert {"embedding_scale", "head_started"} <= set(found.missing_keys)
