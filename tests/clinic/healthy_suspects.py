"""Healthy models that a careless probe would condemn."""

import warnings

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

from clinic.case import Patient, Siamese, concat, conv_encoder, distance, healthy, images, mlp_encoder, texts, vectors


@healthy
def deep_residual_network():
    """Large random weights make nothing but infinities of it, and its logits are small."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

        def forward(self, x):
            return x + self.body(x)

    encoder = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *(Block() for _ in range(24)), nn.Flatten(), nn.Linear(512, 16)
    )
    net = Siamese(encoder, nn.Linear(16, 1))
    nn.init.constant_(net.head.bias, 0.5)
    return Patient(net, *images(), {"loss": nn.BCEWithLogitsLoss()})


class ManhattanLSTM(nn.Module):
    """exp(-|u - v|), a probability without a sigmoid."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)

    def forward(self, x1, x2):
        u, v = (self.lstm(x.view(len(x), 4, 3))[1][0][-1] for x in (x1, x2))
        return torch.exp(-(u - v).abs().sum(1))


@healthy
def manhattan_lstm():
    """Returns probabilities, and nothing says so."""
    return Patient(ManhattanLSTM(), *vectors())


@healthy
def soft_targets():
    """Smoothed labels."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)), x1, x2, y * 0.9 + 0.05)


@healthy
def signed_targets_and_their_loss():
    """The soft margin loss wants -1 and 1."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)), x1, x2, 2 * y - 1, {"loss": nn.SoftMarginLoss()})


@healthy
def hard_tanh_in_the_head():
    """Linear at its start, and so the model is a sum there."""
    head = nn.Sequential(nn.Linear(32, 32), nn.Hardtanh(), nn.Linear(32, 1))
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors())


@healthy
def last_layer_at_zero():
    """Every score is 0 before the first step."""
    net = Siamese(mlp_encoder(), nn.Linear(16, 1))
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return Patient(net, *vectors(), {"loss": nn.BCEWithLogitsLoss()})


class WarmUp(nn.Module):
    """Its product comes in step by step."""

    def __init__(self):
        super().__init__()
        self.encoder, self.sum, self.product = mlp_encoder(), nn.Linear(32, 1), nn.Linear(16, 1)
        self.register_buffer("share", torch.zeros(()))

    def forward(self, x1, x2):
        if self.training:
            self.share += 0.01
        u, v = self.encoder(x1), self.encoder(x2)
        return (self.sum(torch.cat([u, v], 1)) + self.share * self.product(u * v)).squeeze(1)


@healthy
def warm_up_in_a_buffer():
    """A sum now, and not after a hundred steps."""
    return Patient(WarmUp(), *vectors())


@healthy
def traced():
    """A model whose attributes cannot be exchanged."""
    x1, x2, y = vectors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have us compile
        net = torch.jit.trace(Siamese(mlp_encoder(), nn.Linear(16, 1), distance), (x1, x2))
    return Patient(net, x1, x2, y)


@healthy
def cosine_scaled_in_place():
    """Ends in a cosine, which is multiplied afterwards."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = mlp_encoder()
            self.bias = nn.Parameter(torch.tensor(-5.0))

        def forward(self, x1, x2):
            return F.cosine_similarity(self.encoder(x1), self.encoder(x2)).mul_(10).add_(self.bias)

    return Patient(Net(), *vectors(), {"loss": nn.BCEWithLogitsLoss()})


@healthy
def distance_and_its_own_loss():
    """A contrastive model returns a distance, and its loss wants one."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = conv_encoder()

        def forward(self, x1, x2):
            return F.pairwise_distance(self.encoder(x1), self.encoder(x2))

    def contrastive(d, y):
        return (y * d**2 + (1 - y) * (1 - d).clamp_min(0) ** 2).mean()

    return Patient(Net(), *images(), {"loss": contrastive})


@healthy
def half_precision():
    """Sixteen bits, which Adam would overflow."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)).half(), x1.half(), x2.half(), y)


@healthy
def two_optimizers():
    """A temperature of its own optimizer."""
    net = Siamese(mlp_encoder(), nn.Linear(16, 1))
    return Patient(net, *vectors(), {"optimizer": torch.optim.Adam(net.encoder.parameters())})


@healthy
def tiny_logits():
    """A product whose logits are about 1e-8, which is not rounding: nothing cancels in them."""
    net = Siamese(mlp_encoder(), nn.Linear(16, 1, bias=False))
    with torch.no_grad():
        net.head.weight.mul_(1e-7)
    return Patient(net, *vectors())


@healthy
def tiny_logits_of_a_hidden_layer():
    """A concatenation under a hidden layer, nearly additive before its training, with a small last layer."""
    head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1, bias=False))
    with torch.no_grad():
        head[2].weight.mul_(1e-6)
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors())


@healthy
def last_of_three_layers_at_zero():
    """A concatenation under a hidden layer whose last layer starts at zero."""
    head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.zeros_(head[2].weight)
    nn.init.zeros_(head[2].bias)
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors(), {"loss": nn.BCEWithLogitsLoss()})


@healthy
def pixels_up_to_255():
    """Numbers of size 255 come in, are divided, and give logits of a usual size."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = conv_encoder()

        def forward(self, x):
            return self.encoder(x / 255)

    x1, x2, y = images()
    x1, x2 = ((x - x.min()) / (x.max() - x.min()) * 255 for x in (x1, x2))
    return Patient(Siamese(Pixels(), nn.Linear(16, 1), distance), x1, x2, y)


@healthy
def masks_of_the_least_number():
    """Attention that adds the least finite number where a token is padding."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.query, self.head = nn.Embedding(33, 16), nn.Linear(16, 1), nn.Linear(16, 1)

        def encode(self, ids):
            tokens = self.embedding(ids)
            scores = self.query(tokens).squeeze(2) + (ids == 0) * torch.finfo(tokens.dtype).min
            return (scores.softmax(1)[..., None] * tokens).sum(1)

        def forward(self, a, b):
            return self.head(self.encode(a) * self.encode(b)).squeeze(1)

    x1, x2, y = texts()
    x1[:, -2:] = 0
    return Patient(Net(), x1, x2, y)
