"""How the width of an unknown encoder is told."""

import pytest
import torch
import torchvision
from torch import nn

import pairfuse as pf
from pairfuse.items.tower import require_width


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
    ],
)
def test_width(encoder, width):
    assert require_width("encoder", encoder, None, None) == width


class GateLast(nn.Module):
    """Its last linear layer is not the one that makes the embedding."""

    def __init__(self):
        super().__init__()
        self.out, self.gate = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(x) * self.gate(x).sigmoid()


def test_a_guess_gives_way_to_what_is_said():
    """First embedding_dim, then what the encoder tells, then a given fusion, and only then the last linear layer."""
    x = torch.randn(2, 8)
    for model in (
        pf.SiameseComparator(GateLast(), embedding_dim=4),
        pf.SiameseComparator(GateLast(), pf.fusions.Product(4)),
        pf.SiameseComparator(GateLast(), pf.fusions.Bilinear(4, in2_features=6), right_encoder=nn.Linear(8, 6)),
    ):
        assert model(x, x).shape == (2,)
    assert require_width("encoder", nn.Linear(2, 5), None, 7) == 5
    assert require_width("encoder", nn.Linear(2, 5), 9, 7) == 9
    with pytest.raises(ValueError, match=r"must return embeddings of shape \(B, D\) = \(4, 1\), got shape \(4, 4\)"):
        pf.SiameseComparator(GateLast())(x, x)


def test_lazy_encoders():
    """Their parameters have no shape yet, but a device and a dtype."""
    model = pf.SiameseComparator(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), ["bilinear", "abs-diff"], "mlp")
    assert model(torch.randn(2, 3, 5), torch.randn(2, 3, 5)).shape == (2,)


def test_width_is_told_without_running_the_encoder():
    class Counts(nn.Linear):
        runs = 0

        def forward(self, x):
            self.runs += 1
            return super().forward(x)

    encoder = Counts(2, 3)
    model = pf.SiameseComparator(encoder)
    assert encoder.runs == 0
    model(torch.rand(1, 2), torch.rand(1, 2))
    assert encoder.runs == 1
