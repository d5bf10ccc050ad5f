"""`AllPairsLoss`: value and gradients are those of a double loop over the pairs, however little memory it gets."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.losses import AllPairsLoss
from tests.losses import reference
from tests.scoring_cases import FUSIONS, HEADS
from tests.scoring_cases import build as build_comparator

OBJECTIVES = {
    "neighbors": {"objective": "neighbors"},
    "softmax": {"objective": "softmax"},
    "margin": {"objective": "margin", "margin": 0.3},
    "semi-hard": {"objective": "margin", "margin": 0.7, "negatives": "semi-hard"},
    "bce": {"objective": "bce"},
}
WIDTH = 5
TINY = 6_000  # bytes: a few pairs at a time
each_objective = pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)


def build(*args):
    """A comparator whose head has started, so that the loss leaves it as it is."""
    model = build_comparator(*args)
    if model.head_started is not None:
        model.head_started.fill_(True)
    return model


def batch(items=11, labels=(3, 3, 0, 7, 0, 0, 7, 9, 3, 0, 5), width=WIDTH):
    torch.manual_seed(1)
    return torch.randn(items, width, dtype=torch.float64, requires_grad=True), torch.tensor(labels)


def gradients(value, model, *inputs):
    """The gradients of the inputs, then of the parameters."""
    return torch.autograd.grad(value, [*inputs, *model.parameters()], allow_unused=True, materialize_grads=True)


def smallest_budget(model, u, labels, v=None, labels2=None, **options):
    """A budget that holds only tiles of a few pairs."""
    with pytest.raises(ValueError, match="too small") as raised:
        AllPairsLoss(model, max_bytes=1, **options)(u, labels, v, labels2)
    return int(str(raised.value).split()[-1])


def check(model, options, u, labels, v=None, labels2=None):
    """Compare the loss with the double loop: whole, in tiles of full rows, and in the smallest tiles."""
    right = u if v is None else v
    other = labels if labels2 is None else labels2
    scores = reference.pair_scores(model, u, right)
    wanted = reference.loss(scores, labels, other, one_set=labels2 is None, **options)
    inputs = [u] if v is None else [u, v]
    right_gradients = gradients(wanted, model, *inputs)
    least = smallest_budget(model, u, labels, v, labels2, **options)
    for budget in (2**30, 4 * least, least):
        got = AllPairsLoss(model, max_bytes=budget, **options)(u, labels, v, labels2)
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
        for mine, theirs in zip(gradients(got, model, *inputs), right_gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


@each_objective
@pytest.mark.parametrize("fusion", ["product", "squared-diff", "symmetric", "low-rank-bilinear", "ntn"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_it_is_a_double_loop(fusion, head, options):
    model = build(FUSIONS[fusion], HEADS[head], WIDTH)
    check(model, options, *batch())


# Under min and max, scores can be equal but for rounding, which then decides what is semi-hard.
COMBINED = [(f, o) for f in FUSIONS for o in OBJECTIVES if (f, o) not in (("min", "semi-hard"), ("max", "semi-hard"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fusion", "name", "head"), [(*both, ("linear", "mlp", "norm first")[i % 3]) for i, both in enumerate(COMBINED)]
)
def test_every_fusion_and_objective(fusion, name, head):
    """Each with one of three heads in turn."""
    check(build(FUSIONS[fusion], HEADS[head], WIDTH), OBJECTIVES[name], *batch())


@each_objective
@pytest.mark.parametrize("fusion", ["cosine", "product", "symmetric"])
def test_the_first_batch_starts_the_head(fusion, options):
    """Once, with a spread that suits the objective; a head that has started stays as it is."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=WIDTH).double()
    u, labels = batch()
    u = 0.01 * u
    loss = AllPairsLoss(model, **options)
    with torch.no_grad():
        loss(u, labels)
    assert not model.head_started
    loss(u, labels)
    assert model.head_started
    others = ~torch.eye(len(u), dtype=torch.bool)
    scores = model.score_embeddings(u, u)[others]
    if options["objective"] == "bce":
        assert scores.std() < 2.5
    elif fusion == "cosine":
        assert model.head.weight.item() == pytest.approx(14)
    else:
        assert scores.std().item() == pytest.approx(3)
    state = copy.deepcopy(model.state_dict())
    loss(u[2:9], labels[2:9])
    AllPairsLoss(model, **options)(u[2:9], labels[2:9])
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in state.items())


def test_the_start_waits_for_a_batch_that_it_can_use():
    """Not equal embeddings, nor a batch that is refused; negative labels other than −1 are labels."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=WIDTH).double()
    loss = AllPairsLoss(model)
    u, labels = batch()
    weight = model.head.weight.detach().clone()
    loss(torch.ones_like(u, requires_grad=True), labels)
    with pytest.raises(ValueError, match="a positive pair"):
        loss(u, torch.arange(len(u)))
    assert not model.head_started
    assert torch.equal(model.head.weight, weight)
    loss(u, -2 - labels)
    assert model.head_started


def test_a_frozen_head_is_not_started():
    model = pf.SiameseComparator(nn.Linear(8, WIDTH), "product").double()
    model.head.requires_grad_(False)
    u, labels = batch()
    AllPairsLoss(model)(u, labels)
    assert not model.head_started


def test_the_start_of_two_encoders_is_from_their_pairs():
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Linear(4, WIDTH), "product", right_encoder=nn.Linear(6, WIDTH))
    u, v = model.encode(torch.randn(20, 4)), model.encode(torch.randn(30, 6), side="right")
    AllPairsLoss(model)(u, torch.arange(20) % 4, v, torch.arange(30) % 4)
    assert model.score_embeddings(u, v).std().item() == pytest.approx(3)


@each_objective
def test_two_sets(options):
    """Queries and documents: every pair counts, also one of two equal items."""
    u, labels = batch()
    v, labels2 = batch(6, (0, 3, 3, 8, 9, 0))
    check(build("product", HEADS["linear"], WIDTH), options, u, labels, v, labels2)


@each_objective
def test_two_encoders_of_one_set(options):
    """Without labels2 both sides are of the same items: no pair of an item with itself."""
    u, labels = batch()
    v = torch.randn_like(u).requires_grad_()
    check(build("bilinear", HEADS["linear"], WIDTH), options, u, labels, v)


@each_objective
def test_unlabeled_items_are_left_out(options):
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    kept = labels != 0
    loss = AllPairsLoss(model, **options)
    value = loss(u, labels.where(kept, -1))
    torch.testing.assert_close(value, loss(u[kept], labels[kept]))
    (gradient,) = torch.autograd.grad(value, u)
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).any()


def test_a_set_beside_itself_is_one_set():
    """The same tensor twice, with labels2, is two sets: items meet themselves."""
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    options = OBJECTIVES["bce"]
    scores = reference.pair_scores(model, u, u)
    wanted = reference.loss(scores, labels, labels, one_set=False, **options)
    for budget in (2**30, smallest_budget(model, u, labels, u, labels, **options)):
        got = AllPairsLoss(model, max_bytes=budget, **options)(u, labels, u, labels)
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(torch.autograd.grad(got, u), torch.autograd.grad(wanted, u, retain_graph=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    model = build("product", HEADS["linear"], WIDTH, torch.float32)
    u, labels = batch()
    narrow = u.detach().to(dtype).requires_grad_()
    value = AllPairsLoss(model)(narrow, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, AllPairsLoss(model)(narrow.detach().float(), labels))
    value.backward()
    assert narrow.grad.dtype == dtype


def test_tiles_refuse_float16_weights():
    """Gradients of single tiles are below what float16 can hold."""
    model = build("product", HEADS["linear"], WIDTH, torch.float16)
    u, labels = batch()
    u = u.detach().half().requires_grad_()
    with pytest.raises(ValueError, match=r"float32 or bfloat16 weights to score in tiles, got float16: .*autocast"):
        AllPairsLoss(model, max_bytes=2_000)(u, labels)
    AllPairsLoss(model)(u, labels).backward()


def test_a_margin_with_a_large_common_offset():
    model = build("product", HEADS["linear"], WIDTH, torch.float32)
    u, labels = batch()
    u = u.detach().float()
    loss = AllPairsLoss(model, objective="margin")
    before = loss(u, labels)
    with torch.no_grad():
        model.head.bias += 2**12
    torch.testing.assert_close(loss(u, labels), before, rtol=2e-4, atol=0)


def test_under_autocast():
    model = build("product", HEADS["linear"], WIDTH, torch.float32)
    u, labels = batch()
    u = u.detach().float()
    loss = AllPairsLoss(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(u, labels) == loss(u, labels).float()
        inside = loss(u, labels)
    torch.testing.assert_close(inside, loss(u, labels))


def test_it_trains_through_the_model():
    """A step lowers the loss, and the loss has no parameters of its own."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Linear(8, 4), "product")
    loss = AllPairsLoss(model)
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    x, labels = torch.randn(12, 8), torch.arange(12) // 3
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(model.encode(x), labels)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]


def test_the_gradient_is_scaled_by_what_follows():
    """Also in tiles, where the gradients are computed before the backward pass."""
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    for budget in (2**30, smallest_budget(model, u, labels)):
        loss = AllPairsLoss(model, max_bytes=budget)
        (once,) = torch.autograd.grad(loss(u, labels), u)
        (thrice,) = torch.autograd.grad(3 * loss(u, labels), u)
        torch.testing.assert_close(thrice, 3 * once)


def test_without_gradients():
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    budget = smallest_budget(model, u, labels)
    with torch.no_grad():
        value = AllPairsLoss(model, max_bytes=budget)(u, labels)
    assert not value.requires_grad
    torch.testing.assert_close(value, AllPairsLoss(model)(u, labels).detach())


def test_a_frozen_head_gets_no_gradient():
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    budget = smallest_budget(model, u, labels)
    model.head.requires_grad_(False)
    AllPairsLoss(model, max_bytes=budget)(u, labels).backward()
    assert u.grad is not None
    assert all(p.grad is None for p in model.head.parameters())


def test_a_copy_is_of_a_copy_of_the_model():
    loss = AllPairsLoss(build("product", HEADS["linear"], WIDTH))
    twin = copy.deepcopy(loss)
    assert twin.model is not loss.model
    assert twin(*batch()) == loss(*batch())


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(4)], ids=["dropout", "batch norm"])
def test_tiles_refuse_what_depends_on_the_batch(layer):
    model = build("product", lambda f: nn.Sequential(nn.Linear(f, 4), layer, nn.Linear(4, 1)), WIDTH).train()
    u, labels = batch()
    with pytest.raises(ValueError, match=rf"would change what {type(layer).__name__} in train mode computes"):
        AllPairsLoss(model, max_bytes=TINY)(u, labels)
    AllPairsLoss(model)(u, labels)
    model.eval()
    AllPairsLoss(model, max_bytes=TINY)(u, labels)


def test_tiles_refuse_gradients_that_would_be_lost():
    model = build("product", HEADS["linear"], WIDTH)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    model.head.register_forward_hook(lambda module, given, output: output * scale)
    u, labels = batch()
    with pytest.raises(ValueError, match="also depend on another tensor, of shape"):
        AllPairsLoss(model, max_bytes=TINY)(u, labels)
    AllPairsLoss(model)(u, labels).backward()
    assert scale.grad is not None


def test_hooks_of_parameters_see_the_whole_gradient_once():
    model = build("product", HEADS["linear"], WIDTH)
    u, labels = batch()
    seen = []
    model.head.weight.register_hook(seen.append)
    AllPairsLoss(model, max_bytes=smallest_budget(model, u, labels))(u, labels).backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], model.head.weight.grad)


@pytest.mark.parametrize(("fusion", "objective"), [("cosine", "neighbors"), ("product", "softmax")])
def test_the_default_objective(fusion, objective):
    assert AllPairsLoss(pf.SiameseComparator(nn.Linear(8, 4), fusion)).objective == objective


def test_what_it_prints():
    model = build("product", HEADS["linear"], WIDTH)
    assert "objective='margin', margin=0.5, negatives='semi-hard'" in repr(
        AllPairsLoss(model, objective="margin", margin=0.5, negatives="semi-hard")
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_pairs():
    """All pairs of 6,000 items are 144 MiB of scores; the loss and its gradients take less than 40."""
    code = (
        "from tests.benchmarks.all_pairs_loss import memory; "
        "print(memory(6_000, 'product', 'linear', 'softmax', 16 * 2**20))"
    )
    given_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed arrays leave the process: no fragments
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=given_back)
    assert float(printed.stdout) < 40
