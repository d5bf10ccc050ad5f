"""Single probes, where the clinic, which looks at the first finding only, would not notice."""

import pytest
import torch
from torch import nn

import pairfuse as pf

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))


def test_probability_without_a_sigmoid():
    """exp(-distance) is symmetric in its logits too, once it is known to be a probability."""
    encoder = nn.Linear(8, 4)
    diagnosis = pf.diagnose(lambda a, b: torch.exp(-(encoder(a) - encoder(b)).abs().sum(1)), X1, X2)
    assert diagnosis["asymmetric"].verdict == "ok"
    assert diagnosis.grid.isnan().any()  # of an item with itself: the logit of 1
    finite = diagnosis.grid[diagnosis.grid.isfinite()]
    assert (finite < 0).any()  # logits, not probabilities


@pytest.mark.parametrize(
    ("score", "loss", "side"),
    [
        (lambda d: torch.sigmoid(-10 * d), nn.BCELoss(), "above 0.5"),
        (lambda d: -10 * d, nn.BCEWithLogitsLoss(), "above 0"),
        (lambda d: 10 * d, nn.BCEWithLogitsLoss(), "below 0"),
    ],
)
def test_scores_of_one_sign(score, loss, side):
    """A distance has one; a probability made of it stays on one side of 0.5."""
    encoder = nn.Linear(8, 4)
    finding = pf.diagnose(lambda a, b: score((encoder(a) - encoder(b)).abs().sum(1)), X1, X2, loss=loss)[
        "bounded-output"
    ]
    assert finding.verdict == "warn"
    assert f"No score was seen {side}:" in finding.summary


def test_cosine_scaled_in_place():
    """It is the same tensor, and its scores do leave [-1, 1]."""
    encoder = nn.Linear(8, 4)
    call = lambda a, b: nn.functional.cosine_similarity(encoder(a), encoder(b)).mul_(10)  # noqa: E731
    assert pf.diagnose(call, X1, X2, loss=nn.BCEWithLogitsLoss())["bounded-output"].verdict == "ok"


@pytest.mark.parametrize(("offset", "verdict"), [(0.0, "note"), (5.0, "warn")])
def test_batch_norm_of_each_side(offset, verdict):
    """A note; a warning where the sides differ, which the norm removes in train mode."""
    encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    finding = pf.diagnose(lambda a, b: (encoder(a) * encoder(b)).sum(1), X1, X2 + offset)["batch-dependence"]
    assert finding.verdict == verdict
    assert "separate batches" in finding.summary
    joint = pf.SiameseComparator(encoder, "product")
    assert pf.diagnose(joint, X1, X2 + offset)["batch-dependence"].verdict == "ok"


@pytest.mark.parametrize("head", ["hidden layer", "trained fusion", "linear"])
def test_product_geometry_of_a_head(head):
    """Products of one positive number: a hidden layer can separate them, and a fusion that learns may."""
    encoder = nn.Sequential(nn.Linear(8, 1), nn.Softplus()).requires_grad_(False)
    if head == "hidden layer":
        top = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
        finding = pf.diagnose(lambda a, b: top(encoder(a) * encoder(b)), X1, X2)["product-geometry"]
        assert finding.evidence["not separable"] == finding.evidence["pairs of items"]
        assert finding.verdict == "warn"
        return
    fusion = "bilinear" if head == "trained fusion" else "product"
    model = pf.SiameseComparator(encoder, fusion, embedding_dim=1)
    finding = pf.diagnose(model, X1, X2)["product-geometry"]
    assert finding.evidence["not separable"] == finding.evidence["pairs of items"]
    assert finding.verdict == ("warn" if head == "trained fusion" else "fail")


class SymmetricBilinear(nn.Module):
    """Symmetric, and computed in bfloat16, which rounds (u S) · v and (v S) · u differently."""

    def __init__(self):
        super().__init__()
        self.encoder, self.matrix = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

    def forward(self, x1, x2):
        with torch.autocast("cpu", torch.bfloat16):
            u, v = self.encoder(x1), self.encoder(x2)
            return (nn.functional.linear(u, self.matrix + self.matrix.mT) * v).sum(1).float()


def test_rounding_under_autocast():
    """It is judged by the coarsest type on the way: neither an order nor the batch is seen in it."""
    torch.manual_seed(0)
    diagnosis = pf.diagnose(SymmetricBilinear(), X1, X2)
    assert diagnosis["asymmetric"].verdict == "ok"
    assert diagnosis["batch-dependence"].verdict == "ok"


class OnOneSide(nn.Module):
    """One encoder for both sides, and something more on one of them."""

    def __init__(self, encoder, more):
        super().__init__()
        self.encoder, self.more = encoder, more

    def forward(self, a, b):
        return (self.more(self.encoder(a)) * self.encoder(b)).sum(1)


class Scale(nn.Module):
    """A diagonal relation, as of DistMult."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8))

    def forward(self, u):
        return u * self.weight


@pytest.mark.parametrize("more", [Scale, lambda: nn.Linear(8, 8)], ids=["relation", "predictor"])
@pytest.mark.parametrize("items", ["ids", "vectors"])
def test_one_encoder_and_something_on_one_side(more, items):
    """No encoders of their own: what makes one embedding makes the other too."""
    torch.manual_seed(0)
    encoder = nn.Embedding(50, 8) if items == "ids" else nn.Linear(8, 8)
    pairs = torch.randint(50, (2, 32)) if items == "ids" else (X1, X2)
    assert pf.diagnose(OnOneSide(encoder, more()), *pairs)["untied-branches"].verdict == "ok"
    two = nn.Embedding(50, 8) if items == "ids" else nn.Linear(8, 8)
    model = lambda a, b: (encoder(a) * two(b)).sum(1)  # noqa: E731
    assert pf.diagnose(model, *pairs)["untied-branches"].verdict == "warn"


def test_two_layers_that_take_turns():
    """Each side goes through both, so that the scores are symmetric: these are no encoders of their own."""
    torch.manual_seed(0)
    encoder, gate, value, head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def model(a, b):
        u, v = encoder(a), encoder(b)
        return head(gate(u).sigmoid() * value(v).tanh() + gate(v).sigmoid() * value(u).tanh()).squeeze(1)

    assert pf.diagnose(model, X1, X2)["untied-branches"].verdict == "ok"


@pytest.mark.parametrize("end", ["clamp", "sigmoid", "fake quantization"])
@pytest.mark.parametrize("right", [True, False])
def test_scores_where_the_last_function_is_flat(end, right):
    """No gradient at these weights, and some at others: the scores are saturated, and nothing is detached."""
    torch.manual_seed(0)
    encoder = nn.Linear(8, 8, bias=False)
    ends = {
        "clamp": lambda z: z.clamp(0, 1),
        "sigmoid": torch.sigmoid,
        "fake quantization": lambda z: torch.fake_quantize_per_tensor_affine(z, 0.05, 0, -128, 127),
    }
    scale = nn.Parameter(torch.tensor(1e5))
    model = lambda a, b: ends[end](scale * (encoder(a) * encoder(b)).sum(1))  # noqa: E731
    y = ((model(X1, X2) > 0.5) == right).float()
    finding = pf.diagnose(model, X1, X2, y)["dead-branch"]
    assert finding.verdict == ("note" if right else "warn")
    assert "saturated" in finding.summary
    assert pf.diagnose(lambda a, b: model(a, b).detach(), X1, X2, y)["dead-branch"].verdict == "fail"
