"""Embeddings or heads whose geometry leaves same and different inseparable, or nearly so."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import (
    VOCABULARY,
    Patient,
    Siamese,
    black_white,
    conv_encoder,
    distance,
    faulty,
    images,
    mlp_encoder,
    texts,
    vectors,
)


def _bias_free_encoder():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 16, bias=False), nn.ReLU()),
    )


@faulty("product-geometry")
def black_is_zero():
    """Without biases a black image is the zero vector: (black, black) and (black, white) score alike."""
    return Patient(Siamese(_bias_free_encoder(), nn.Linear(16, 1)), *black_white())


@faulty("product-geometry")
def black_is_zero_comparator():
    """The same in our own comparator."""
    return Patient(pf.SiameseComparator(_bias_free_encoder(), "product", embedding_dim=16), *black_white())


class OnePositiveNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1), nn.Softplus())
        self.out = nn.Linear(1, 1)

    def forward(self, a, b):
        return self.out(self.encoder(a) * self.encoder(b))


@faulty("additive")
def one_positive_number():
    """An embedding of one positive number: the product of a small and a large one lies between their squares."""
    return Patient(OnePositiveNumber(), *vectors())


@faulty("product-geometry")
def brightness_only():
    """Gray images through a network without biases: all embeddings point the same way."""
    levels = torch.tensor([0.2, 0.4, 0.7, 1.0])
    left = torch.arange(32) % 4
    right = (left + torch.tensor([0, 1, 0, 2, 0, 3, 0, 1]).repeat_interleave(4)) % 4
    x1, x2 = (levels[kinds][:, None, None, None].expand(-1, 3, 8, 8).clone() for kinds in (left, right))
    return Patient(Siamese(_bias_free_encoder()[:-1], nn.Linear(16, 1)), x1, x2, (left == right).float())


@faulty("product-geometry")
def huge_common_offset():
    """Every pair scores nearly alike: the embeddings differ in their third digit only."""
    net = Siamese(mlp_encoder(), nn.Linear(16, 1))
    with torch.no_grad():
        net.encoder[2].bias.add_(20.0)
        net.head.weight.div_(400.0)
    return Patient(net, *vectors())


@faulty("product-geometry")
def huge_common_offset_comparator():
    """The same in our own comparator, on images."""
    encoder = conv_encoder()
    nn.init.constant_(encoder[-1].bias, 10.0)
    net = pf.SiameseComparator(encoder, "product", nn.Linear(16, 1))
    net.head.weight.data /= 100.0
    return Patient(net, *images())


def _tiny_start():
    """Initialized by hand, with a standard deviation that was right for another layer."""
    encoder = mlp_encoder()
    nn.init.normal_(encoder[2].weight, std=5e-6)
    nn.init.uniform_(encoder[2].bias, 0.5, 1.0)
    return encoder


@faulty("collapsed-embeddings")
def tiny_start_of_the_last_layer():
    """The embeddings of all items are equal to four digits."""
    return Patient(Siamese(_tiny_start(), nn.Linear(16, 1), distance), *vectors())


@faulty("collapsed-embeddings")
def tiny_start_and_mlp():
    """The same under a head with a hidden layer."""
    head = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 1))
    return Patient(Siamese(_tiny_start(), head, distance), *vectors())


class PooledOverPadding(nn.Module):
    """The [PAD] vector is huge, and the mean is taken over padding too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.head = nn.Linear(16, 1)
        with torch.no_grad():
            self.embedding.weight[0] = torch.randn(16).sign() * 1e4

    def encode(self, ids):
        return F.normalize(self.embedding(ids).mean(1), dim=1)

    def forward(self, a, b):
        return self.head(torch.abs(self.encode(a) - self.encode(b)))[:, 0]


@faulty("collapsed-embeddings")
def pooled_over_padding():
    """Every sentence has a cosine of 1.0000 with every other."""
    x1, x2, y = texts()
    return Patient(PooledOverPadding(), F.pad(x1, (0, 8)), F.pad(x2, (0, 8)), y)


class Antisymmetric(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.f = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        return (self.f(torch.cat([u, v], 1)) - self.f(torch.cat([v, u], 1))).squeeze(1)


@faulty("pinned-score")
def distance_without_bias():
    """Different pairs are learned, same pairs stay at 0.5, and the loss stops at 0.347."""
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1, bias=False), distance), *vectors())


@faulty("pinned-score")
def antisymmetric_head():
    """Two equal items always score 0, and of (a, b) and (b, a) one is above 0."""
    return Patient(Antisymmetric(), *vectors())


class PositiveWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = conv_encoder()
        self.log_weight = nn.Parameter(torch.full((16,), -2.0))

    def forward(self, x1, x2):
        return torch.abs(self.encoder(x1) - self.encoder(x2)) @ self.log_weight.exp()


@faulty("labels")
def distance_with_the_wrong_sign():
    """The more two images differ, the more they are "the same": the weights cannot turn negative."""
    return Patient(PositiveWeights(), *images(), {"loss": nn.BCEWithLogitsLoss()})


class Monotone(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))
        self.raw = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x1, x2):
        a, b = self.encoder(x1), self.encoder(x2)
        extremes = torch.cat([torch.minimum(a, b), torch.maximum(a, b)], 1)
        return extremes @ F.softplus(self.raw) + self.bias


class SmallerOfTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))
        self.head = nn.Linear(1, 1)

    def forward(self, x1, x2):
        return self.head(torch.minimum(self.encoder(x1), self.encoder(x2))).squeeze(1)


@faulty("additive")
def smaller_of_two_numbers():
    """One number for each item, of which the smaller is scored: a mixed pair scores as one of the same pairs."""
    return Patient(SmallerOfTwo(), *vectors())


@faulty("additive")
def monotone_head_on_one_number():
    """A mixed pair always scores between the two pairs of equal items."""
    return Patient(Monotone(), *vectors())


class Scaled(Siamese):
    """One side only scales what the other side says."""

    def __init__(self, positive):
        super().__init__(mlp_encoder(), nn.Linear(16, 1))
        self.scale, self.positive = mlp_encoder(features=1), positive

    def forward(self, x1, x2):
        return self.head(self.encoder(x1) * self.positive(self.scale(x2))).squeeze(1)


@faulty("xnor-overfit")
def scale_of_the_other_side():
    """The second item makes a score larger or smaller, and never turns it around."""
    return Patient(Scaled(torch.exp), *vectors())


@faulty("xnor-overfit")
def gate_of_one_number():
    """A gate that is one number for the whole embedding."""
    return Patient(Scaled(torch.sigmoid), *vectors())
