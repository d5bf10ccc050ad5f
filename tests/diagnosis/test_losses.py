"""The loss decides which targets are right, and if scores should be logits or probabilities."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as everybody writes it)

import pairfuse as pf
from pairfuse.diagnosis.loss_kind import LossKind, kind_of, wants_zero_and_one

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()


class Product(nn.Module):
    """The product of two embeddings, and whatever comes after the last layer."""

    def __init__(self, end=nn.Identity(), scale=1.0):  # noqa: B008
        super().__init__()
        self.encoder, self.head, self.end, self.scale = nn.Linear(8, 4), nn.Linear(4, 1), end, scale

    def forward(self, x1, x2):
        return self.end(self.scale * self.head(self.encoder(x1) * self.encoder(x2)).squeeze(1))


class Referred(Product):
    """Two outputs, of which one class is the reference: its logit is always 0."""

    def __init__(self, reference):
        super().__init__()
        self.reference = reference

    def forward(self, x1, x2):
        z = super().forward(x1, x2)
        return torch.stack([0 * z, z] if self.reference == 0 else [z, 0 * z], 1)


def focal(scores, targets):
    p = scores.sigmoid()
    wrong = targets * (1 - p) + (1 - targets) * p
    return (wrong**2 * F.binary_cross_entropy_with_logits(scores, targets, reduction="none")).mean()


def focal_of_probabilities(p, targets):
    wrong = targets * (1 - p) + (1 - targets) * p
    return (wrong**2 * F.binary_cross_entropy(p, targets, reduction="none")).sum()


def hinge(scores, targets):
    return F.relu(1 - scores * targets).mean()


def contrastive(distance, targets):
    return (targets * distance**2 + (1 - targets) * F.relu(1 - distance) ** 2).mean()


OF_LOGITS = {
    "plain": nn.BCEWithLogitsLoss(),
    "pos_weight": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)),
    "weight": nn.BCEWithLogitsLoss(weight=torch.rand(32)),
    "function": F.binary_cross_entropy_with_logits,
    "partial": functools.partial(F.binary_cross_entropy_with_logits, pos_weight=torch.tensor(2.0)),
    "lambda": lambda s, t: F.binary_cross_entropy_with_logits(s, t, pos_weight=torch.tensor(2.0), reduction="sum"),
    "focal": focal,
    "probit": lambda s, t: -torch.special.log_ndtr(s * (2 * t - 1)).mean(),
}
OF_PROBABILITIES = {
    "plain": nn.BCELoss(),
    "weight": nn.BCELoss(weight=torch.rand(32)),
    "by hand": lambda p, t: -(t * p.log() + (1 - t) * (1 - p).log()).mean(),
    "clamped": lambda p, t: F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), t),
    "focal": focal_of_probabilities,
}
BY_HAND, SIZES = ("by hand", "probit"), [(32,), (32, 1)]
OTHERS = {
    "squared error": nn.MSELoss(),
    "absolute error": nn.L1Loss(),
    "huber": nn.SmoothL1Loss(),
    "hinge": hinge,
    "hinge of 0 and 1": lambda s, t: F.relu(1 - s * (2 * t - 1)).mean(),
    "wide squared hinge": lambda s, t: F.relu(2.5 - s * (2 * t - 1)).square().mean(),
    "contrastive": contrastive,
    "hinge embedding": nn.HingeEmbeddingLoss(),
    "three arguments": lambda a, b, c: 0,
}


def test_kind():
    """A loss is known by its class or by its calls."""
    kinds = {"logits": OF_LOGITS, "probabilities": OF_PROBABILITIES}
    for kind, losses in kinds.items():
        assert {name: kind_of(loss, (32,)) for name, loss in losses.items()} == dict.fromkeys(
            losses, LossKind(kind, True)
        )
    assert {name: kind_of(loss, (32,)).takes for name, loss in OTHERS.items()} == dict.fromkeys(OTHERS)
    assert kind_of(nn.CrossEntropyLoss()).takes == "logits"
    assert kind_of(F.cross_entropy).takes == "logits"
    assert kind_of(lambda s, t: F.cross_entropy(s, t.long()), (32, 2)) == LossKind("logits", True)
    assert kind_of(OF_LOGITS["weight"]).takes == "logits", "by its class, where the weights are of another number"
    assert kind_of(OF_PROBABILITIES["weight"]).takes == "probabilities"


@pytest.mark.parametrize("shape", [(32,), (32, 1), (4,)])
def test_kind_by_values(shape):
    """What the calls do not say is guessed, and said to be a guess."""
    assert kind_of(lambda s, t: (1 + torch.exp(-s * (2 * t - 1))).mul(1).sub(1).log1p().mean(), shape) == LossKind(
        "logits", False
    )
    assert kind_of(lambda p, t: (1 / (1e-6 + t * p + (1 - t) * (1 - p)) - 1).abs().mean(), shape).seen is False


def test_wants_zero_and_one():
    """Cross-entropies do; signed losses and regressions do not."""
    calls = [loss for losses in (OF_LOGITS, OF_PROBABILITIES) for name, loss in losses.items() if name not in BY_HAND]
    assert all(wants_zero_and_one(loss, (32,)) for loss in calls)
    assert not any(
        wants_zero_and_one(lambda s, t: F.binary_cross_entropy_with_logits(s, (t + 1) / 2), n) for n in SIZES
    )
    assert wants_zero_and_one(nn.CrossEntropyLoss())
    assert wants_zero_and_one(nn.NLLLoss())
    signed = [nn.SoftMarginLoss(), F.soft_margin_loss, *(OTHERS[k] for k in ("squared error", "hinge", "contrastive"))]
    assert not any(map(wants_zero_and_one, signed))


def test_kind_leaves_no_trace():
    """A loss that counts its calls in a buffer is called in a sandbox."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, scores, targets):
            self.calls += 1
            return focal(scores, targets)

    loss = Counting()
    assert kind_of(loss).takes == "logits"
    assert loss.calls == 0


@pytest.mark.parametrize("loss", OF_LOGITS.values(), ids=OF_LOGITS)
def test_probabilities_into_a_loss_of_logits(loss):
    """A second sigmoid: `fail`; scores that stay in [-1, 1]: `warn`."""
    assert pf.diagnose(Product(nn.Sigmoid()), X1, X2, Y, loss=loss)["double-sigmoid"].verdict == "fail"
    assert pf.diagnose(Product(nn.Tanh()), X1, X2, Y, loss=loss)["bounded-output"].verdict == "warn"


@pytest.mark.parametrize("loss", OF_PROBABILITIES.values(), ids=OF_PROBABILITIES)
def test_logits_into_a_loss_of_probabilities(loss):
    finding = pf.diagnose(Product(scale=20.0), X1, X2, Y, loss=loss)["double-sigmoid"]
    assert (finding.verdict, "expects probabilities" in finding.summary) == ("fail", True)
    assert pf.diagnose(Product(nn.Sigmoid()), X1, X2, Y, loss=loss)["double-sigmoid"].verdict == "ok"


@pytest.mark.parametrize(
    ("end", "loss", "verdict"),
    [
        (nn.Tanh(), nn.MSELoss(), "ok"),
        (nn.Identity(), hinge, "ok"),
        (nn.Identity(), nn.SoftMarginLoss(), "ok"),
        (nn.Identity(), F.soft_margin_loss, "ok"),
        (nn.Identity(), nn.HingeEmbeddingLoss(), "ok"),
        (nn.Sigmoid(), nn.MSELoss(), "warn"),  # which cannot reach -1
        (nn.Identity(), None, "warn"),
        (nn.Identity(), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), "fail"),
        (nn.Identity(), focal, "fail"),
    ],
)
def test_signed_targets(end, loss, verdict):
    """Targets of -1 and 1 fail only with a loss that takes 0 and 1."""
    assert pf.diagnose(Product(end), X1, X2, 2 * Y - 1, loss=loss)["labels"].verdict == verdict


def test_graded_targets():
    """Similarities from 0 to 5 are a regression's, and divided in the middle."""
    diagnosis = pf.diagnose(Product(), X1, X2, torch.linspace(0, 5, 32), loss=nn.MSELoss())
    assert diagnosis["labels"].verdict == "ok"
    assert diagnosis["labels"].evidence["same"] == 0.5
    undefined = torch.where(torch.arange(32) < 3, torch.nan, Y)
    finding = pf.diagnose(Product(), X1, X2, undefined, loss=nn.MSELoss())["labels"]
    assert (finding.verdict, "nan" in finding.summary) == ("fail", True)


@pytest.mark.parametrize("reference", [0, 1])
def test_reference_class(reference):
    """Of two outputs the difference counts: one of them may be constant."""
    diagnosis = pf.diagnose(Referred(reference), X1, X2, Y, loss=nn.CrossEntropyLoss())
    for id in ("constant-output", "dead-branch", "batch-dependence", "xnor-overfit"):
        assert diagnosis[id].verdict == "ok", diagnosis[id]
    assert "every score is the same" not in str(diagnosis.skipped)
    assert diagnosis.grid.std() > 0
    assert diagnosis.ok


def test_two_outputs_within_0_and_1():
    """They are probabilities only if they add up to 1; otherwise their difference is the logit."""

    class Powers(Product):
        def forward(self, x1, x2):
            p = super().forward(x1, x2).sigmoid()
            return torch.stack([p**2, p**3], 1)

    model = Powers()
    diagnosis = pf.diagnose(model, X1, X2, Y, loss=nn.CrossEntropyLoss())
    items = torch.stack([X1, X2], 1).flatten(0, 1)[:16]
    scores = model(items[:, None].expand(-1, 16, -1).flatten(0, 1), items.repeat(16, 1))
    assert torch.allclose(diagnosis.grid.flatten().float(), scores[:, 1] - scores[:, 0], atol=1e-6)


def dice(p, t):
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def p_t(p, t):
    return t * p + (1 - t) * (1 - p)


def ranking(s, t):
    return F.relu(0.2 - (s[t > 0.5][:, None] - s[t <= 0.5])).mean()


HEALTHY_ON_PROBABILITIES = {
    "dice": dice,
    "1 - p_t": lambda p, t: (1 - p_t(p, t)).mean(),
    "focal": lambda p, t: -((1 - p_t(p, t)) ** 2 * p_t(p, t).clamp_min(1e-6).log()).mean(),
    "ranking": ranking,
    "tversky": lambda p, t: (
        1 - (p * t).sum() / ((p * t).sum() + 0.7 * (1 - p).mul(t).sum() + 0.3 * (1 - t).mul(p).sum())
    ),
    "brier": lambda p, t: (p - t).square().mean(),
    "steep sigmoid": lambda p, t: F.binary_cross_entropy_with_logits(20 * (p - 0.5), t),
    "odds": lambda p, t: F.binary_cross_entropy_with_logits(torch.logit(p, 1e-6), t),
    "generalized": lambda p, t: ((1 - p_t(p, t).clamp_min(1e-6) ** 0.7) / 0.7).mean(),
}
HEALTHY_ON_LOGITS = {
    "dice": lambda s, t: dice(s.sigmoid(), t),
    "1 - p_t": lambda s, t: (1 - p_t(s.sigmoid(), t)).mean(),
    "ranking": ranking,
    "pairs of pairs": lambda s, t: F.softplus(-(s[t > 0.5][:, None] - s[t <= 0.5])).mean(),
    "sides apart": lambda s, t: F.softplus(-s[t > 0.5]).mean() + F.softplus(s[t <= 0.5]).mean(),
    "exponential": lambda s, t: torch.exp(-s * (2 * t - 1)).mean(),
    "odds by hand": lambda s, t: torch.log(1 + torch.exp(-s * (2 * t - 1))).mean(),
    "sigmoid by hand": lambda s, t: F.binary_cross_entropy(1 / (1 + torch.exp(-s)), t),
    "least squares": lambda s, t: (s - t).square().mean(),
    "variance": lambda s, t: (s.var() + 1).log() + F.mse_loss(s, t),
}
HEALTHY_ON_SIGNED = {
    "product": lambda o, t: (1 - o * t).mean(),
    "margin": lambda o, t: torch.where(t > 0, 1 - o, F.relu(o - 0.3)).mean(),
    "square": lambda o, t: (o - t).square().mean(),
    "logistic": lambda o, t: F.softplus(-o * t).mean(),
    "converted": lambda o, t: F.binary_cross_entropy_with_logits(5 * o, (t + 1) / 2),
}


@pytest.mark.parametrize(
    ("end", "scale", "y", "loss"),
    [
        *((nn.Sigmoid(), 1.0, Y, loss) for loss in HEALTHY_ON_PROBABILITIES.values()),
        *((nn.Identity(), 20.0, Y, loss) for loss in HEALTHY_ON_LOGITS.values()),
        *((nn.Tanh(), 1.0, 2 * Y - 1, loss) for loss in HEALTHY_ON_SIGNED.values()),
    ],
    ids=[*HEALTHY_ON_PROBABILITIES, *HEALTHY_ON_LOGITS, *HEALTHY_ON_SIGNED],
)
def test_loss_of_ones_own(end, scale, y, loss):
    """No healthy model fails for its loss, nor is it warned of a second sigmoid or of its targets."""
    torch.manual_seed(0)
    diagnosis = pf.diagnose(Product(end, scale), X1, X2, y, loss=loss)
    assert not [finding for finding in diagnosis.findings if finding.verdict == "fail"]
    assert diagnosis["double-sigmoid"].verdict == diagnosis["labels"].verdict == "ok"


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: F.binary_cross_entropy_with_logits(s, t * 0.9 + 0.05),
        lambda s, t: F.binary_cross_entropy_with_logits(0.1 * s, t),
        lambda s, t: F.binary_cross_entropy(F.hardsigmoid(s), t),
        lambda s, t: F.softplus(-s[t > 0.5]).mean() + F.softplus(s[t <= 0.5]).mean(),
        lambda s, t: dice(s.sigmoid(), t),
        lambda s, t: F.mse_loss(torch.sigmoid(s), t),
    ],
    ids=["smoothed labels", "temperature", "hard sigmoid", "sides apart", "dice", "squared error"],
)
def test_second_sigmoid_in_a_loss_of_ones_own(loss):
    """The sigmoid is seen when the loss calls it."""
    finding = pf.diagnose(Product(nn.Sigmoid()), X1, X2, Y, loss=loss)["double-sigmoid"]
    assert (finding.verdict, finding.ground) == ("fail", "verified")
    assert pf.diagnose(Product(), X1, X2, Y, loss=loss)["double-sigmoid"].verdict == "ok"


def test_two_probabilities_into_a_cross_entropy():
    """A softmax of two probabilities stays between 0.27 and 0.73, unless a temperature spreads them."""

    class Softmax(Product):
        def forward(self, x1, x2):
            z = super().forward(x1, x2)
            return torch.stack([-z, z], 1).softmax(1)

    for scale, verdict in ((1, "fail"), (0.5, "fail"), (20, "ok")):
        loss = lambda s, t, scale=scale: F.cross_entropy(scale * s, t.long())  # noqa: E731
        assert pf.diagnose(Softmax(), X1, X2, Y, loss=loss)["double-sigmoid"].verdict == verdict
