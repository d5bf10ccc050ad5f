"""Faults of learning: gradients that are NaN or missing, weights outside the optimizer, values that are not finite."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import (
    Patient,
    black_white,
    captioned_images,
    conv_encoder,
    distance_net,
    faulty,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    vectors,
)


class Euclidean(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.fc = nn.Linear(1, 1)

    def forward(self, x1, x2):
        d = torch.sqrt(((self.encoder(x1) - self.encoder(x2)) ** 2).sum(1, keepdim=True))
        return self.fc(d).squeeze(1)


@faulty("nan-gradient")
def root_of_squares():
    """The loss is NaN some hundred steps into the training: a pair held the same item twice."""
    return Patient(Euclidean(), *vectors())


class LogDistance(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = conv_encoder()
        self.scale = nn.Parameter(torch.tensor(-1.0))
        self.shift = nn.Parameter(torch.tensor(1.0))

    def forward(self, x1, x2):
        squared = (self.encoder(x1) - self.encoder(x2)).pow(2).sum(1)
        return self.shift + self.scale * torch.log1p(squared.sqrt())


@faulty("nan-gradient")
def log_of_a_distance():
    """All weights are NaN after one batch with a repeated image."""
    return Patient(LogDistance(), *images())


class Direction(nn.Module):
    """Guards the division by 0 with `torch.where`, which guards the value and not the gradient."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.mlp = nn.Sequential(nn.Linear(33, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        gap = torch.abs(u - v)
        length = gap.pow(2).sum(1, keepdim=True)
        direction = torch.where(length > 0, gap / length, torch.zeros_like(gap))
        return self.mlp(torch.cat([direction, u * v, length], 1))


@faulty("nan-gradient")
def division_guarded_by_where():
    """The outputs are always finite, and the loss is NaN all the same."""
    return Patient(Direction(), *vectors())


class SignedRoot(nn.Module):
    def __init__(self):
        super().__init__()
        self.text = text_encoder()
        self.out = nn.Linear(16, 1)

    def forward(self, a, b):
        return torch.sigmoid(self.out(torch.sqrt(torch.abs(self.text(a) - self.text(b)))))


@faulty("nan-gradient")
def root_of_abs_diff():
    """Two equal sentences, and the next step turns every weight into NaN."""
    return Patient(SignedRoot(), *texts())


class DetachedLeft(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.head = nn.Linear(16, 1)

    def forward(self, x1, x2):
        u = self.encoder(x1).detach()
        v = self.encoder(x2)
        return self.head(u * v)


@faulty("dead-branch")
def detached_side():
    """A `.detach()` that was left behind: the left side teaches the encoder nothing."""
    return Patient(DetachedLeft(), *vectors())


class NoGradRight(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = conv_encoder()
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, query, reference):
        q = self.backbone(query)
        with torch.no_grad():
            r = self.backbone(reference)
        return self.head(torch.abs(q - r)).squeeze(1)


@faulty("dead-branch")
def no_grad_around_one_side():
    """The reference was encoded under `torch.no_grad()`, to save memory."""
    return Patient(NoGradRight(), *images())


class DataOfTheImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = conv_encoder()
        self.text = text_encoder()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, image, ids):
        return (self.image(image).data * self.text(ids)).sum(1) * self.scale + self.bias


@faulty("dead-branch")
def data_of_one_tower():
    """The image tower's `.grad` is None after every step: its output was read through `.data`."""
    return Patient(DataOfTheImage(), *captioned_images())


@faulty("head-not-in-optimizer")
def optimizer_of_the_encoder():
    """The head stays at its random start: only `encoder.parameters()` were given to the optimizer."""
    net = distance_net()
    return Patient(net, *vectors(), {"optimizer": torch.optim.Adam(net.encoder.parameters())})


@faulty("head-not-in-optimizer")
def optimizer_of_a_copy():
    """The loss does not move at all: the model was copied after the optimizer had been made."""
    net = pf.SiameseComparator(conv_encoder(), "product")
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
    return Patient(copy.deepcopy(net), *images(), {"optimizer": optimizer})


@faulty("head-not-in-optimizer")
def head_replaced_later():
    """The head was exchanged for another after the optimizer had been made."""
    net = distance_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net.head = nn.Linear(16, 1)
    return Patient(net, *vectors(), {"optimizer": optimizer})


@faulty("head-not-in-optimizer")
def learning_rate_of_zero():
    """The head does not learn: its group of parameters has a learning rate of 0."""
    net = distance_net()
    optimizer = torch.optim.AdamW([{"params": net.encoder.parameters()}, {"params": net.head.parameters(), "lr": 0.0}])
    return Patient(net, *vectors(), {"optimizer": optimizer})


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = conv_encoder()
        self.text = text_encoder()
        self.out = nn.Linear(16, 1)

    def forward(self, image, ids):
        return self.out(self.image(image) * self.text(ids)).squeeze(1)


@faulty("frozen")
def frozen_random_tower():
    """A line meant for a pretrained backbone froze a tower that starts at random."""
    net = TwoTowers()
    net.image.requires_grad_(False)
    return Patient(net, *captioned_images())


@faulty("frozen")
def everything_frozen():
    """`loss.backward()` raises: "element 0 of tensors does not require grad"."""
    return Patient(distance_net().requires_grad_(False), *vectors())


@faulty("not-finite")
def weight_is_nan():
    """A checkpoint that was saved after the loss had become NaN."""
    net = distance_net()
    with torch.no_grad():
        net.encoder[0].weight[3, 5] = torch.nan
    return Patient(net, *vectors())


class LogCosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(12, 16, bias=False), nn.Tanh())

    def forward(self, x1, x2):
        return torch.log((self.project(x1) * self.project(x2)).sum(1))


@faulty("not-finite")
def log_of_a_negative_number():
    """Pairs at an obtuse angle score NaN: the logarithm of a similarity."""
    return Patient(LogCosine(), *vectors())


class UnitVectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16, bias=False))
        self.temperature = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x1, x2):
        u, v = self.net(x1), self.net(x2)
        u, v = u / u.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True)
        return self.temperature * F.relu((u * v).sum(1)) + self.bias


@faulty("not-finite")
def zero_by_zero():
    """A black image has length 0, and was divided by it."""
    return Patient(UnitVectors(), *black_white())
