"""How the width of an unknown encoder is told."""

import pytest
import torch
import torchvision
from torch import nn

from pairfuse._encoding import embedding_width


class With(nn.Module):
    def __init__(self, **attributes):
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("encoder", "width"),
    [
        (With(embedding_dim=3, num_features=4, out_features=5), 3),
        (With(num_features=4, out_features=5), 4),  # timm
        (nn.Linear(2, 5), 5),
        (nn.LazyLinear(5), 5),
        (nn.Embedding(10, 6), 6),
        (With(embedding_dim="?", body=nn.Linear(2, 7)), 7),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 8), nn.BatchNorm1d(8)), 8),
        (torchvision.models.resnet18(), 1000),
        (nn.Conv2d(3, 8, 3), None),
    ],
)
def test_width(encoder, width):
    assert embedding_width(encoder) == width


def test_width_is_told_without_running_the_encoder():
    class Counts(nn.Linear):
        runs = 0

        def forward(self, x):
            self.runs += 1
            return super().forward(x)

    encoder = Counts(2, 3)
    import pairfuse as pf

    model = pf.SiameseComparator(encoder)
    assert encoder.runs == 0
    model(torch.rand(1, 2), torch.rand(1, 2))
    assert encoder.runs == 1
