"""Sums g(x1) + h(x2) that were trained until their logits vanished: what most people diagnose."""

import torch
from torch import nn

import pairfuse as pf
from clinic.case import Pairs, Patient, black_white, faulty, train
from clinic.faulty_additive import QuestionNet

STEPS = 300


def quartets(repeats: int = 8, width: int = 12) -> Pairs:
    """The four pairs of two items, several times over."""
    a, b = torch.randn(2, width)
    x1, x2 = torch.stack([a, a, b, b]), torch.stack([a, b, a, b])
    return Pairs(x1.repeat(repeats, 1), x2.repeat(repeats, 1), torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(repeats))


class Stuck(nn.Module):
    """Two encoders, their outputs side by side, one linear layer, a sigmoid."""

    def __init__(self):
        super().__init__()
        self.q_encoder, self.k_encoder = (nn.Sequential(nn.Linear(12, 32), nn.ReLU()) for _ in range(2))
        self.fc = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

    def forward(self, x1, x2):
        return self.fc(torch.cat([self.q_encoder(x1), self.k_encoder(x2)], 1)).squeeze(1)


def _stuck(loss: nn.Module) -> Patient:
    net, pairs = Stuck(), quartets()
    train(net, pairs, steps=STEPS, lr=3e-3, loss=loss)
    return Patient(net, *pairs, {"loss": loss})


@faulty("additive")
def plateau_of_the_cross_entropy():
    """Every output is 0.5 to seven digits after some hundred steps."""
    return _stuck(nn.BCELoss())


@faulty("additive")
def plateau_of_the_squared_error():
    """The loss is 0.25 to seven digits."""
    return _stuck(nn.MSELoss())


@faulty("additive")
def plateau_of_a_comparator():
    """Our own comparator: its logits are rounding errors of numbers that cancel."""
    net, pairs = pf.SiameseComparator(nn.Linear(12, 8), "concat", allow_additive=True), quartets(1)
    train(net, pairs, steps=STEPS)
    return Patient(net, *pairs)


@faulty("additive")
def plateau_of_the_question():
    """The founding question's model after its training, not before."""
    net, (x1, x2, y) = QuestionNet(), black_white(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(torch.stack((x1, x2), 1)).squeeze(1), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Patient(lambda a, b: net(torch.stack((a, b), 1)), x1, x2, y, {"module": net})
