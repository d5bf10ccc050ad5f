"""Healthy models with a history: trained, frozen on purpose, or with their loss and optimizer at hand."""

import torch
from torch import nn

import pairfuse as pf
from clinic.case import (
    Patient,
    conv_encoder,
    healthy,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    train,
    vectors,
)


@healthy
def trained_to_certainty():
    """Every logit is large, and right."""
    net, pairs = pf.SiameseComparator(mlp_encoder()), vectors()
    train(net, pairs, steps=200)
    return Patient(net, *pairs)


class OnFrozenFeatures(nn.Module):
    """A new head on a backbone whose statistics fit, and which stays in eval mode."""

    def __init__(self, images):
        super().__init__()
        self.backbone = conv_encoder().requires_grad_(False)
        for _ in range(40):  # stands in for a pretraining
            self.backbone(images)
        self.backbone.eval()
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x1, x2):
        return self.head(torch.abs(self.backbone(x1) - self.backbone(x2))).squeeze(1)


@healthy
def frozen_encoder():
    """Most of the parameters are frozen: the encoder is pretrained, and the head learns."""
    pairs = images()
    net = OnFrozenFeatures(torch.cat([pairs.x1, pairs.x2]))
    train(net, pairs, steps=60)
    return Patient(net, *pairs)


class OnFeaturesWithoutGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = text_encoder()
        self.head = nn.Linear(32, 1)

    @torch.no_grad()
    def encode(self, ids):
        return self.encoder(ids)

    def forward(self, a, b):
        u, v = self.encode(a), self.encode(b)
        return self.head(torch.cat([u * v, torch.abs(u - v)], 1))[:, 0]


@healthy
def encoder_without_gradient():
    """`torch.no_grad()` around both sides: no gradient reaches an input, and none need to."""
    net, pairs = OnFeaturesWithoutGradient(), texts()
    train(net, pairs)
    return Patient(net, *pairs)


class Probability(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        return self.head(torch.cat([u * v, torch.abs(u - v)], 1)).squeeze(1)


@healthy
def probabilities_and_their_loss():
    """A sigmoid at the end, and `nn.BCELoss`, which wants one."""
    net, pairs = Probability(), vectors()
    train(net, pairs, steps=40, loss=nn.BCELoss())
    return Patient(net, *pairs, {"loss": nn.BCELoss()})


class TwoClasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x1, x2):
        return self.head(torch.cat([self.encoder(x1), self.encoder(x2)], dim=1))


@healthy
def two_logits_and_cross_entropy():
    """Two outputs for a yes-or-no question, as `nn.CrossEntropyLoss` has it."""
    return Patient(TwoClasses(), *vectors(), {"loss": nn.CrossEntropyLoss()})


class LitSiamese(nn.Module):
    """Written for a trainer: the loss and the optimizer are methods of the model."""

    def __init__(self, learning_rate=1e-3):
        super().__init__()
        self.learning_rate = learning_rate
        self.encoder = conv_encoder()
        self.classifier = nn.Linear(16, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, x1, x2):
        return self.classifier(self.encoder(x1) * self.encoder(x2)).squeeze(1)

    def training_step(self, batch, batch_idx):
        x1, x2, y = batch
        return self.criterion(self(x1, x2), y)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


@healthy
def trainer_style():
    """A module within which the loss is another module."""
    net = LitSiamese()
    return Patient(net, *images(), {"optimizer": net.configure_optimizers(), "loss": net.criterion})


@healthy
def complete_optimizer():
    """An optimizer in the middle of its work: two groups, momentum, no fault."""
    net, (x1, x2, y) = pf.SiameseComparator(mlp_encoder(), "product"), vectors()
    groups = [{"params": net.encoder.parameters(), "lr": 1e-3}, {"params": net.head.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=1e-2, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x1, x2), y).backward()
        optimizer.step()
    return Patient(net, x1, x2, y, {"optimizer": optimizer})


@healthy
def optimizer_of_the_head():
    """The optimizer holds the head alone: the encoder is frozen, and means to be."""
    pairs = images()
    net = OnFrozenFeatures(torch.cat([pairs.x1, pairs.x2]))
    return Patient(net, *pairs, {"optimizer": torch.optim.Adam(net.head.parameters())})
