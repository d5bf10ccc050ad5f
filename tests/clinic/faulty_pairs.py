"""Faults of the pairing: an order that matters, two encoders for one kind of item, labels that mislead."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import (
    VOCABULARY,
    Patient,
    Siamese,
    concat,
    conv_encoder,
    distance_net,
    faulty,
    images,
    mlp_encoder,
    sorted_vectors,
    train,
    vectors,
)


@faulty("asymmetric")
def trained_on_ordered_pairs():
    """(a, b) is "different" and (b, a) is "the same": the training pairs were sorted."""
    head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    net, pairs = Siamese(mlp_encoder(), head, concat), sorted_vectors()
    train(net, pairs)
    return Patient(net, *pairs)


class SentencePair(nn.Module):
    """[u, v, |u − v|] and one linear layer."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.classifier = nn.Linear(48, 1)

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        return self.classifier(torch.cat([u, v, torch.abs(u - v)], dim=-1))


@faulty("asymmetric")
def sentence_pair_on_ordered_pairs():
    """Swapping the two items turns "different" into "the same"."""
    net, pairs = SentencePair(), sorted_vectors()
    train(net, pairs)
    return Patient(net, *pairs)


class ReadsOneAfterTheOther(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 12)
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, first, second):
        _, hidden = self.gru(self.embedding(torch.cat([first, second], dim=1)))
        return self.out(hidden[0]).squeeze(1)


@faulty("asymmetric")
def reads_one_text_after_the_other():
    """One recurrent network over both texts, trained on sorted pairs."""
    left, right = torch.tensor([0, 0, 0, 1]).repeat(8), torch.tensor([0, 1, 1, 1]).repeat(8)
    x1, x2 = (1 + 16 * kinds[:, None] + torch.randint(16, (32, 6)) for kinds in (left, right))
    net, y = ReadsOneAfterTheOther(), (left == right).float()
    patient = Patient(net, x1, x2, y)
    train(net, patient, steps=60, lr=2e-2)
    return patient


class TwoEncoders(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder1 = mlp_encoder()
        self.encoder2 = mlp_encoder()
        self.fc = nn.Linear(16, 1)

    def forward(self, x1, x2):
        return self.fc(self.encoder1(x1) * self.encoder2(x2))


@faulty("untied-branches")
def two_encoders_and_product():
    """It learns, but far more slowly than with one encoder, and p(x, x) is nothing special."""
    return Patient(TwoEncoders(), *vectors())


class TwoNetworks(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = conv_encoder()
        self.right = conv_encoder()
        self.mlp = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())

    def forward(self, batch):
        return self.mlp(torch.cat([self.left(batch[:, 0]), self.right(batch[:, 1])], 1)).squeeze(1)


@faulty("untied-branches")
def two_networks_and_mlp():
    """ "Siamese" by name: two networks of their own for two photographs."""
    net = TwoNetworks()
    return Patient(lambda x1, x2: net(torch.stack([x1, x2], 1)), *images(), {"module": net})


@faulty("untied-branches")
def comparator_with_two_encoders():
    """Our own comparator, given a second encoder that nothing calls for."""
    net = pf.SiameseComparator(conv_encoder(channels=1), "product", right_encoder=conv_encoder(channels=1))
    return Patient(net, *images(channels=1))


@faulty("labels")
def all_the_same():
    """The loss goes to 0 within minutes, and the model says yes to everything."""
    x1, x2, y = vectors()
    return Patient(distance_net(1.0), x1, x2, torch.ones_like(y))


@faulty("labels")
def plus_and_minus_one():
    """The loss is negative: targets of -1 and 1, as a cosine embedding loss takes them."""
    x1, x2, y = vectors()
    return Patient(distance_net(1.0), x1, x2, 2 * y - 1)


@faulty("labels")
def swapped():
    """A model that was good scores an accuracy of 0.00: 1 meant "different" in this file."""
    net, pairs = distance_net(1.0), vectors()
    train(net, pairs)
    return Patient(net, pairs.x1, pairs.x2, 1 - pairs.y)


class Contrastive(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()

    def forward(self, x1, x2):
        return F.pairwise_distance(self.encoder(x1), self.encoder(x2))


def _contrastive_loss(distance, y):
    return (y * distance.square() + (1 - y) * F.relu(4.0 - distance).square()).mean()


@faulty("labels")
def distance_as_score():
    """Trained by a contrastive loss, and its distance is now read as a similarity."""
    net, pairs = Contrastive(), vectors()
    train(net, pairs, loss=_contrastive_loss)
    return Patient(net, *pairs, {"loss": nn.BCEWithLogitsLoss()})


@faulty("labels")
def hardly_any_same():
    """97 % accuracy: three pairs of a hundred are the same, and none is found."""
    x1, x2, y = vectors(pairs=200)
    order = torch.cat([y.nonzero()[:3, 0], (1 - y).nonzero()[:97, 0]])[torch.randperm(100)]
    return Patient(distance_net(1.0), x1[order], x2[order], y[order])
