"""The probe `additive`: what proves it, what verifies it, and models whose float64 or hooks hide it."""

import pytest
import torch
from clinic.healthy_architectures import narrow_mlp
from torch import nn

import pairfuse as pf
from pairfuse.diagnosis.probes.additive import is_declared_additive

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()


def concat(head=None, **options):
    return pf.SiameseComparator(nn.Linear(8, 4), "concat", nn.Linear(8, 1) if head is None else head, **options)


class Head(nn.Module):
    """A class of one's own around one linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 1)

    def forward(self, z):
        return self.linear(z)


class Side(pf.Fusion):
    """Side by side, and declared not to be a sum."""

    symmetry, additive, xnor = "none", False, "generic"

    def __init__(self, width):
        super().__init__(width)
        self.out_features = 2 * width

    def fuse(self, u, v):
        return torch.cat([u, v], -1)


class Times(pf.Fusion):
    """A product that is declared a sum."""

    symmetry, additive, xnor = "symmetric", True, "never"

    def fuse(self, u, v):
        return u * v


class Crossed(pf.SiameseComparator):
    """A subclass that adds a product of its own."""

    def forward(self, x1, x2):
        return super().forward(x1, x2) + (self.encode(x1) * self.encode(x2)).sum(1)


class Shifted(pf.SiameseComparator):
    """A subclass that stays a sum."""

    def forward(self, x1, x2):
        return super().forward(x1, x2) + 1


class Weighted(pf.Fusion):
    """A sum, and declared one, but not by pairfuse."""

    symmetry, additive, xnor = "none", True, "never"

    def fuse(self, u, v):
        return u + 2 * v


def hooked(part):
    model = concat(allow_additive=True)
    target = model if part == "model" else getattr(model, part)
    target.register_forward_hook(lambda module, given, output: output * output)
    return model


@pytest.mark.parametrize(
    ("model", "verdict", "ground"),
    [
        (lambda: concat(allow_additive=True), "fail", "proved"),
        (lambda: concat(nn.Sequential(nn.Linear(8, 1), nn.Tanh()), allow_additive=True), "fail", "proved"),
        (lambda: concat(nn.Sequential(nn.ReLU(), nn.Linear(8, 1))), "fail", "verified"),
        (lambda: concat(Head()), "fail", "verified"),
        (lambda: pf.SiameseComparator(nn.Linear(8, 4), Side(4)), "fail", "verified"),
        (lambda: pf.SiameseComparator(nn.Linear(8, 4), Times(4), allow_additive=True), "ok", "observed"),
        (lambda: pf.SiameseComparator(nn.Linear(8, 4), [Times(4), "concat"], allow_additive=True), "ok", "observed"),
        (lambda: Crossed(nn.Linear(8, 4), "concat", allow_additive=True), "ok", "observed"),
        (lambda: Shifted(nn.Linear(8, 4), "concat", allow_additive=True), "fail", "verified"),
        (lambda: pf.SiameseComparator(nn.Linear(8, 4), Weighted(4), allow_additive=True), "fail", "verified"),
        (lambda: pf.SiameseComparator(nn.Linear(8, 4), [Weighted(4)], allow_additive=True), "fail", "verified"),
        (lambda: hooked("model"), "ok", "observed"),
        (lambda: hooked("fusion"), "fail", "verified"),  # squares u and v apart: a sum still
        (lambda: hooked("head"), "ok", "observed"),
    ],
)
def test_comparator(model, verdict, ground):
    """Declared facts prove only what they speak of; everything else is measured."""
    finding = pf.diagnose(model(), X1, X2)["additive"]
    assert (finding.verdict, finding.ground) == (verdict, ground)


def test_is_declared_additive_of_a_replaced_method():
    """A `forward` that is set on an instance is not what its class declares."""
    model = concat(allow_additive=True)
    assert is_declared_additive(model)
    model.fusion.fuse = lambda u, v: torch.cat([u * v, v], -1)
    assert not is_declared_additive(model)


class Concat(nn.Module):
    """The founding mistake, on which the models below vary."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(8, 4), nn.Linear(8, 1)

    def encode(self, x):
        return self.linear(x)

    def forward(self, x1, x2):
        return self.head(torch.cat([self.encode(x1), self.encode(x2)], 1)).squeeze(1)


class FloatLogits(Concat):
    def forward(self, x1, x2):
        return super().forward(x1, x2).float()


class Autocast(Concat):
    def forward(self, x1, x2):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x1, x2).float()


class ZeroStates(Concat):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def encode(self, x):
        states = torch.zeros(1, len(x), 4)
        return self.lstm(x[:, None], (states, states))[0][:, 0]


class Pixels(Concat):
    def encode(self, x):
        return self.linear(x.float() / 255)


class OneHot(Concat):
    def encode(self, x):
        return self.linear(nn.functional.one_hot(x, 8).float())


class ZeroHead(Concat):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.head.weight)


@pytest.mark.parametrize(
    ("kind", "items", "ground"),
    [
        (Concat, "floats", "verified"),
        (FloatLogits, "floats", "verified"),
        (Autocast, "floats", "verified"),  # which leaves float64 as it is
        (ZeroHead, "floats", "verified"),  # every score is the same so far
        (ZeroStates, "floats", "observed"),  # float64 does not run
        (Pixels, "bytes", "observed"),
        (OneHot, "classes", "observed"),
    ],
)
def test_hidden_sum(kind, items, ground):
    """Rounding is that of the coarsest type on the way, and where float64 does not run the model's own type is used."""
    pairs = {
        "floats": (X1, X2),
        "bytes": torch.randint(256, (2, 32, 8), dtype=torch.uint8),
        "classes": torch.randint(8, (2, 32)),
    }[items]
    diagnosis = pf.diagnose(kind(), *pairs, Y)
    assert (diagnosis["additive"].verdict, diagnosis["additive"].ground) == ("fail", ground)
    assert not diagnosis.ok


class Ends(Concat):
    def __init__(self, end):
        super().__init__()
        self.end = end

    def forward(self, x1, x2):
        return self.end(super().forward(x1, x2))


def two_outputs(z):
    return torch.stack([-torch.tanh(z), torch.tanh(z)], 1)


MONOTONE_ENDS = {
    "clamped sigmoid": lambda z: z.sigmoid().clamp(1e-7, 1 - 1e-7),
    "soft clipping": lambda z: 10 * torch.tanh(z),
    "hard clipping": lambda z: 5 * nn.functional.hardtanh(z),
    "fake quantization": lambda z: torch.fake_quantize_per_tensor_affine(z, 0.05, 0, -128, 127),
    "straight-through rounding": lambda z: z + ((z * 16).round() / 16 - z).detach(),
    "sigmoid by hand": lambda z: 1 / (1 + torch.exp(-z)),
    "sigmoid without NaN": lambda z: torch.nan_to_num(torch.sigmoid(z)),
    "smoothed sigmoid": lambda z: 0.98 * torch.sigmoid(z) + 0.01,
    "there and back": lambda z: torch.sigmoid(z).logit(),
    "arctangent": lambda z: 0.5 + torch.atan(z) / 3.15,
    "cube": lambda z: z**3,
    "two outputs": two_outputs,
    "bfloat16": lambda z: 5 * torch.tanh(z.bfloat16()).float(),
}


@pytest.mark.parametrize("end", MONOTONE_ENDS.values(), ids=MONOTONE_ENDS)
@pytest.mark.parametrize("seed", range(3))
def test_increasing_function_of_a_sum(end, seed):
    """It cannot order two items both ways, whatever it is made of."""
    torch.manual_seed(seed)
    diagnosis = pf.diagnose(Ends(end), X1, X2, Y)
    assert (diagnosis["additive"].verdict, diagnosis["additive"].ground) == ("fail", "verified")
    assert not diagnosis.ok


@pytest.mark.parametrize("end", ["soft clipping", "smoothed sigmoid", "cube"])
@pytest.mark.parametrize("items", ["many", "two", "tiny"])
def test_increasing_function_of_a_product(end, items):
    """Two items that change their order show that it is no sum; so do mixtures of two, and items without offset."""
    torch.manual_seed(0)
    encoder, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 1)
    two = X1[:2].repeat_interleave(8, 0), X1[:2].repeat(8, 1)
    pairs = {"many": (X1, X2), "two": two, "tiny": (X1 / 1000, X2 / 1000)}[items]
    model = lambda a, b: MONOTONE_ENDS[end](head(encoder(a) * encoder(b)).squeeze(1))  # noqa: E731
    assert pf.diagnose(model, *pairs)["additive"].verdict == "ok"


@pytest.mark.parametrize("last", [nn.ReLU, nn.Softplus])
@pytest.mark.parametrize("seed", range(4))
def test_two_ids(last, seed):
    """Two ids have no mixtures, and too few orders to tell: a product of nonnegative numbers is no sum."""
    torch.manual_seed(seed)
    encoder, head = nn.Sequential(nn.Embedding(2, 12), nn.Linear(12, 16), last()), nn.Linear(16, 1)
    pairs = torch.randint(2, (2, 24))
    model = lambda a, b: head(encoder(a) * encoder(b)).squeeze(1)  # noqa: E731
    assert pf.diagnose(model, *pairs)["additive"].verdict == "ok"


def test_increasing_function_of_a_sum_of_two_items():
    """Mixtures of the two are shown to the model."""
    torch.manual_seed(0)
    two = X1[:2].repeat_interleave(8, 0), X1[:2].repeat(8, 1)
    assert pf.diagnose(Ends(MONOTONE_ENDS["soft clipping"]), *two)["additive"].verdict == "fail"


def test_increasing_function_of_a_sum_without_its_weights():
    """Only the current weights are known: a warning; a ranking may be one."""
    torch.manual_seed(0)
    weights = torch.randn(16)
    call = lambda a, b: 10 * torch.tanh(torch.cat([a, b], 1) @ weights)  # noqa: E731
    assert pf.diagnose(call, X1, X2, Y)["additive"].verdict == "warn"
    assert pf.diagnose(call, X1, X2, Y, ranking=True)["additive"].verdict == "note"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_hidden_layer(dtype):
    """A concatenation under a hidden layer is not a sum, even where rounding is coarse."""
    head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    assert pf.diagnose(concat(head).to(dtype), X1.to(dtype), X2.to(dtype))["additive"].verdict == "ok"


class CastsToHalf(Concat):
    """Runs in bfloat16 only, where rounding hides the small interaction of an untrained hidden layer."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 1))
        nn.init.normal_(self.head[0].weight, std=0.05)
        self.bfloat16()

    def encode(self, x):
        return self.linear(x.bfloat16())


def test_model_that_casts_to_half():
    """It is healthy, and every decisive probe has an answer."""
    torch.manual_seed(0)
    diagnosis = pf.diagnose(CastsToHalf(), X1, X2, Y)
    assert diagnosis["additive"].verdict == "ok"
    assert "xnor-overfit" not in diagnosis.skipped
    assert diagnosis.ok


def test_zero_head_of_a_product():
    """A last layer that starts at zero is a note of `constant-output`, not a sum."""
    model = pf.SiameseComparator(nn.Linear(8, 4), "product", nn.Linear(4, 1))
    nn.init.zeros_(model.head.weight)
    diagnosis = pf.diagnose(model, X1, X2)
    assert (diagnosis["constant-output"].verdict, diagnosis["additive"].verdict) == ("note", "ok")


def test_ranking():
    """A ranking may be additive, and its targets may all be 1: the chosen item first."""
    diagnosis = pf.diagnose(concat(allow_additive=True), X1, X2, torch.ones(32), ranking=True)
    assert diagnosis["additive"].verdict == "note"
    assert diagnosis["labels"].verdict == "ok"
    assert diagnosis.ok


class ZeroStart(Concat):
    """A product that begins at zero and grows."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x1, x2):
        return super().forward(x1, x2) + self.share * (self.encode(x1) * self.encode(x2)).sum(1)


class DeadHidden(Concat):
    """A hidden layer of dead ReLUs next to a sum."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(8, 8)
        nn.init.constant_(self.hidden.bias, -100.0)

    def forward(self, x1, x2):
        z = torch.cat([self.encode(x1), self.encode(x2)], 1)
        return (self.head(z) + self.hidden(z).relu().sum(1, keepdim=True)).squeeze(1)


@pytest.mark.parametrize(("kind", "verdict"), [(ZeroStart, "note"), (DeadHidden, "warn")])
def test_sum_at_the_current_weights_only(kind, verdict):
    """A note where the first steps of training leave the sum; a warning where it takes other weights."""
    torch.manual_seed(0)
    finding = pf.diagnose(kind(), X1, X2)["additive"]
    assert (finding.verdict, "At its current weights" in finding.summary) == (verdict, True)


@pytest.mark.parametrize("seed", range(3))
def test_narrow_hidden_layer(seed):
    """Two hidden units are linear for a few items, and not for all: no sum."""
    patient = narrow_mlp.build(seed)
    assert pf.diagnose(patient.model, patient.x1, patient.x2)["additive"].verdict == "ok"
