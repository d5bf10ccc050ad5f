"""Healthy models of less usual kinds, and with losses of their owners' making."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

from clinic.case import (
    VOCABULARY,
    Pairs,
    Patient,
    Siamese,
    black_white,
    concat,
    conv_encoder,
    distance,
    healthy,
    images,
    mlp_encoder,
    texts,
    train,
    vectors,
)


class OneTable(nn.Module):
    """DistMult: items in one table, and a relation that scales them."""

    def __init__(self):
        super().__init__()
        self.items, self.relation = nn.Embedding(50, 8), nn.Parameter(torch.randn(8))

    def forward(self, head, tail):
        return (self.items(head) * self.relation * self.items(tail)).sum(1)


@healthy
def distmult():
    """The relation multiplies one side, which is no encoder of its own."""
    return Patient(OneTable(), *torch.randint(50, (2, 32)), (torch.arange(32) % 2).float())


class Factors(nn.Module):
    """A factorization machine of users and items."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(1000, 8), nn.Embedding(50, 8)
        self.user_bias, self.item_bias = nn.Embedding(1000, 1), nn.Embedding(50, 1)

    def forward(self, user, item):
        return (self.user_bias(user) + self.item_bias(item)).squeeze(1) + (self.users(user) * self.items(item)).sum(1)


@healthy
def users_and_items():
    """Numbers of two kinds that look alike: no item has the number of every user."""
    pairs = torch.randint(1000, (48,)), torch.randint(50, (48,)), (torch.arange(48) % 2).float()
    return Patient(Factors(), *pairs, {"loss": nn.BCEWithLogitsLoss()})


class CrossEncoder(nn.Module):
    """A transformer that reads both texts as one."""

    def __init__(self):
        super().__init__()
        self.words, self.sides = nn.Embedding(VOCABULARY, 16), nn.Embedding(2, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 1)

    def forward(self, a, b):
        tokens = torch.cat([self.words(a) + self.sides.weight[0], self.words(b) + self.sides.weight[1]], 1)
        return self.head(self.layers(tokens).mean(1)).squeeze(1)


@healthy
def cross_encoder():
    """One transformer over both texts."""
    return Patient(CrossEncoder(), *texts(), {"loss": nn.BCEWithLogitsLoss()})


class TakesTurns(nn.Module):
    """Gated units: each side gates the other."""

    def __init__(self):
        super().__init__()
        self.encoder, self.gate, self.value = mlp_encoder(), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 1)

    def one_way(self, u, v):
        return self.gate(u).sigmoid() * self.value(v).tanh()

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        return self.head(self.one_way(u, v) + self.one_way(v, u)).squeeze(1)


@healthy
def gates_that_take_turns():
    """Two layers, through both of which each side goes: symmetric, though the last results differ."""
    return Patient(TakesTurns(), *vectors())


class WeightsFromTheOther(nn.Module):
    """A hypernetwork: one item makes the layer that reads the other."""

    def __init__(self):
        super().__init__()
        self.encoder, self.weights, self.head = mlp_encoder(features=8), nn.Linear(8, 64), nn.Linear(8, 1)

    def forward(self, x1, x2):
        layer = self.weights(self.encoder(x1)).view(-1, 8, 8)
        return self.head((layer @ self.encoder(x2)[..., None]).squeeze(2).relu()).squeeze(1)


@healthy
def hypernetwork():
    """No weight of the layer between the items is a parameter."""
    return Patient(WeightsFromTheOther(), *vectors())


class Complex(nn.Module):
    """ComplEx, whose scores have an order."""

    def __init__(self):
        super().__init__()
        self.real, self.imaginary = nn.Embedding(50, 8), nn.Embedding(50, 8)
        self.relation = nn.Parameter(torch.randn(2, 8))

    def forward(self, a, b):
        u, v = (torch.complex(self.real(x), self.imaginary(x)) for x in (a, b))
        return (u * torch.complex(*self.relation) * v.conj()).sum(1).real


@healthy
def complex_numbers():
    """Its embeddings are no floating-point numbers."""
    return Patient(Complex(), *torch.randint(50, (2, 32)), (torch.arange(32) % 2).float())


@healthy
def two_nonnegative_numbers():
    """A dot product of two numbers, none of them below zero: slow, and able to tell same from different."""
    encoder = nn.Sequential(*mlp_encoder(features=2), nn.Softplus())
    return Patient(Siamese(encoder, nn.Linear(2, 1)), *vectors())


@healthy
def tiny_inputs_under_a_product():
    """The biases hide the items: nearly a sum, at large weights too."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)), x1 / 1000, x2 / 1000, y)


@healthy
def clipped_product_of_two_items():
    """Of two items alone no order changes before training."""
    net = Siamese(conv_encoder(features=32), nn.Linear(32, 1))
    return Patient(lambda x1, x2: 10 * torch.tanh(net(x1, x2)), *black_white(), {"module": net})


class Adapted(nn.Module):
    """A frozen encoder with a low-rank adapter that starts at zero."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder().requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(12, 4) / 4), nn.Parameter(torch.zeros(4, 16))
        self.head = nn.Linear(16, 1)

    def encode(self, x):
        return self.encoder(x) + x @ self.down @ self.up

    def forward(self, x1, x2):
        return self.head((self.encode(x1) - self.encode(x2)).abs()).squeeze(1)


@healthy
def low_rank_adapter():
    """Most weights are frozen, and half of the others zero."""
    return Patient(Adapted(), *vectors(), {"loss": nn.BCEWithLogitsLoss()})


class Quantized(nn.Module):
    """Trained for eight bits: embeddings and logits in steps of 0.05, within ±6.4."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = mlp_encoder(), nn.Linear(16, 1)

    def forward(self, x1, x2):
        steps = lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)  # noqa: E731
        return steps(self.head(steps(self.encoder(x1)) * steps(self.encoder(x2))).squeeze(1))


@healthy
def quantized_and_trained():
    """Every logit is at an end of its range, and right, so that no gradient flows."""
    net, pairs = Quantized(), vectors()
    train(net, pairs, steps=100)
    return Patient(net, *pairs, {"loss": nn.BCEWithLogitsLoss()})


def dice(p, y):
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def focal(p, y):
    p_t = y * p + (1 - y) * (1 - p)
    return -((1 - p_t) ** 2 * p_t.clamp_min(1e-6).log()).mean()


def ranking(scores, y):
    return F.relu(0.2 - (scores[y > 0.5][:, None] - scores[y <= 0.5])).mean()


def _probabilities():
    return Siamese(mlp_encoder(), nn.Sequential(nn.Linear(16, 1), nn.Sigmoid()), distance)


@healthy
def probabilities_and_dice():
    """The loss of segmentation, on probabilities."""
    return Patient(_probabilities(), *vectors(), {"loss": dice})


@healthy
def probabilities_and_focal_loss():
    """A focal loss that takes probabilities, as its paper writes it."""
    return Patient(_probabilities(), *vectors(), {"loss": focal})


@healthy
def probabilities_and_ranking():
    """The scores of same pairs are to be above those of different ones."""
    return Patient(_probabilities(), *vectors(), {"loss": ranking})


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()

    def forward(self, x1, x2):
        return F.cosine_similarity(self.encoder(x1), self.encoder(x2))


@healthy
def signed_targets_and_a_cosine():
    """Targets of -1 and 1, which the loss multiplies with the cosine."""
    x1, x2, y = vectors()
    return Patient(Cosine(), x1, x2, 2 * y - 1, {"loss": lambda o, t: (1 - o * t).mean()})


@healthy
def cosine_that_the_loss_scales():
    """A temperature in the loss and not in the model."""
    scaled = lambda o, t: F.binary_cross_entropy_with_logits(10 * o - 5, t)  # noqa: E731
    return Patient(Cosine(), *vectors(), {"loss": scaled})


class Momentum(nn.Module):
    """The right side goes through a slow copy of the encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.slow = copy.deepcopy(self.encoder).requires_grad_(False)
        self.last = nn.Linear(1, 1)

    def forward(self, x1, x2):
        return self.last(F.cosine_similarity(self.encoder(x1), self.slow(x2))[:, None]).squeeze(1)


@healthy
def momentum_encoder():
    """One encoder is frozen, and follows the other."""
    return Patient(Momentum(), *vectors())


@healthy
def one_recurrent_network():
    """Both texts, one after the other: no encoder runs on one alone."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.lstm = nn.Embedding(VOCABULARY, 12), nn.LSTM(12, 16, batch_first=True)
            self.head = nn.Linear(16, 1)

        def forward(self, a, b):
            return self.head(self.lstm(self.words(torch.cat([a, b], 1)))[1][0][-1]).squeeze(1)

    return Patient(Net(), *texts())


@healthy
def mixture_of_experts():
    """A gate on both items, and experts that are linear in them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.gate, self.experts = mlp_encoder(), nn.Linear(32, 4), nn.Linear(32, 4)

        def forward(self, x1, x2):
            both = concat(self.encoder(x1), self.encoder(x2))
            return (self.gate(both).softmax(1) * self.experts(both)).sum(1)

    return Patient(Net(), *vectors())


@healthy
def normalized_weights():
    """Spectral and weight norm: the weights are made anew for each call."""
    norms = nn.utils.parametrizations
    encoder = nn.Sequential(
        *(norms.spectral_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Flatten(), norms.weight_norm(nn.Linear(288, 16))),
    )
    return Patient(Siamese(encoder, norms.weight_norm(nn.Linear(16, 1))), *images())


@healthy
def sets_of_points():
    """Graphs whose edges are made of their nodes, pooled."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 1)

        def encode(self, x):
            edges = (x @ x.mT / 2).softmax(2)
            return self.second(edges @ self.first(edges @ x).relu()).mean(1)

        def forward(self, x1, x2):
            return self.head((self.encode(x1) - self.encode(x2)).square()).squeeze(1)

    x1, x2, y = vectors(width=20)
    return Patient(Net(), *Pairs(x1.view(-1, 5, 4), x2.view(-1, 5, 4), y))
