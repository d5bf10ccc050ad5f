"""Scores that depend on the mode, or on who else is in the batch."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

from clinic.case import (
    Pairs,
    Patient,
    Siamese,
    conv_encoder,
    distance,
    faulty,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    train,
    vectors,
)


class Normalized(nn.Module):
    def __init__(self, momentum=0.1):
        super().__init__()
        self.fc1 = nn.Linear(12, 32)
        self.bn = nn.BatchNorm1d(32, momentum=momentum)
        self.fc2 = nn.Linear(32, 16)
        self.out = nn.Linear(16, 1)
        nn.init.constant_(self.out.bias, 2.0)

    def forward(self, x1, x2):
        e = self.fc2(F.relu(self.bn(self.fc1(torch.cat([x1, x2])))))
        u, v = e.chunk(2)
        return self.out(torch.abs(u - v)).squeeze(1)


@faulty("train-eval-gap")
def statistics_never_updated():
    """Training accuracy 1.00, validation accuracy 0.5: `momentum=0` was meant for the optimizer."""
    x1, x2, y = vectors()
    pairs = Pairs(x1 / 20, x2 / 20, y)
    net = Normalized(momentum=0.0)
    train(net, pairs)
    return Patient(net, *pairs)


@faulty("train-eval-gap")
def statistics_of_other_data():
    """Good in train mode, at chance in eval mode: the running statistics are those of pixels up to 255."""
    pairs = vectors()
    net = Normalized()
    train(net, pairs, steps=60)
    with torch.no_grad():
        net.bn.running_var.mul_(255.0)
    return Patient(net, *pairs)


@faulty("train-eval-gap")
def dropout_of_nearly_everything():
    """`p` was taken for the share to keep: the loss in train mode jumps about, the eval mode is confident."""
    net = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 16))
    head = nn.Linear(16, 1)
    nn.init.constant_(head.bias, 2.0)
    pairs = vectors()
    model = Siamese(net, head, distance).eval()
    train(model, pairs)
    return Patient(model.train(), *pairs)


class CentersTheBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.fc = nn.Linear(16, 1)

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        u, v = u - u.mean(0), v - v.mean(0)
        return self.fc(4 * u * v)


@faulty("batch-dependence")
def centers_by_the_batch():
    """A pair's score changes with the batch that it comes in, and of a batch of one nothing is left."""
    return Patient(CentersTheBatch(), *vectors())


class NoRunningStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(200, 16)),
        )
        self.similarity = nn.Bilinear(16, 16, 1)

    def forward(self, pair):
        return self.similarity(self.features(pair[0]), self.features(pair[1])).squeeze(1)


@faulty("batch-dependence")
def no_running_statistics():
    """Served one pair at a time, the model answers otherwise than in validation."""
    net = NoRunningStatistics()
    net.similarity.weight.data = net.similarity.weight.data + net.similarity.weight.data.mT
    return Patient(lambda x1, x2: net((x1, x2)), *images(channels=1, size=12), {"module": net})


class EachSideByItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 32)
        self.fc2 = nn.Linear(32, 16)
        self.head = nn.Linear(16, 1)

    def encode(self, x):
        return self.fc2(F.relu(F.batch_norm(self.fc1(x), None, None, training=True)))

    def forward(self, x1, x2):
        return self.head(torch.abs(self.encode(x1) - self.encode(x2)))


@faulty("batch-dependence")
def sides_normalized_apart():
    """Day photos on the left, night photos on the right: each side is normalized by itself, and the gap is gone."""
    x1, x2, y = vectors()
    return Patient(EachSideByItself(), x1 + 2, x2 - 2, y)


class Squeezes(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*conv_encoder()[:6], nn.AdaptiveAvgPool2d(1))
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x1, x2):
        u, v = self.body(x1).squeeze(), self.body(x2).squeeze()
        return self.head(torch.cat([u * v, torch.abs(u - v)], dim=1))


@faulty("batch-dependence")
def squeeze_of_a_batch_of_one():
    """The last batch of the epoch raises an IndexError, if it holds a single pair."""
    return Patient(Squeezes(), *images())


class SoftmaxOverTheBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = text_encoder()
        self.fc = nn.Linear(16, 2)

    def forward(self, a, b):
        return F.softmax(self.fc(self.encoder(a) * self.encoder(b)), dim=0)


@faulty("batch-dependence")
def softmax_over_the_batch():
    """`dim=0`: the probabilities of all pairs of a batch add up to 1."""
    return Patient(SoftmaxOverTheBatch(), *texts())
