"""Heads: their start, and the proof that one is affine."""

import re

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.fusions import AbsDiff, Bilinear, Concat, Cosine, Product, Stack
from pairfuse.heads import check_head, is_monotone_affine, make_head


def test_linear_and_mlp_are_plain_layers():
    assert repr(make_head("linear", Product(5))) == repr(nn.Linear(5, 1))
    mlp = make_head("mlp", Stack([Product(5), AbsDiff(5)]))
    assert repr(mlp) == repr(nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1)))


@pytest.mark.parametrize("width", [1, 8, 512])
@pytest.mark.parametrize(
    ("parts", "same", "different"),
    [
        ([Product], 6, 0),
        ([AbsDiff], 3, -3),
        ([Product, AbsDiff], 4.3, -1.7),  # the distance has 4/π of the contrast's 1 + 4/π, hence a bias of 1.7
        ([AbsDiff, AbsDiff, Product], 3.8, -2.2),
    ],
)
def test_linear_starts_as_a_classifier_of_standard_normal_pairs(parts, same, different, width):
    """Before any training: a typical same pair and a typical different pair are 6 logits apart."""
    fusion = Stack([part(width) for part in parts])
    head = make_head("linear", fusion)
    u, v = torch.randn(100_000 // width, width), torch.randn(100_000 // width, width)
    assert head(fusion(u, u)).mean().item() == pytest.approx(same, abs=0.3)
    assert head(fusion(u, v)).mean().item() == pytest.approx(different, abs=0.3)


def test_a_head_on_a_distance_starts_above_zero():
    """Of u = v it sees its bias only: 3, and weights below 0."""
    head = make_head("linear", AbsDiff(6))
    assert head.bias.item() == 3
    assert (head.weight < 0).all()
    assert make_head("mlp", AbsDiff(6))[-1].bias.item() == 3


def test_a_head_on_a_product_starts_undecided_at_any_scale():
    """Embeddings of unit length make tiny products: a bias far from 0 would then be all that the head says."""
    u, v = (torch.nn.functional.normalize(torch.randn(50, 512), dim=-1) for _ in range(2))
    for name in ("linear", "mlp"):
        assert make_head(name, Product(512))(u * v).abs().max() < 0.5


@pytest.mark.parametrize(("fusion", "tied"), [(Concat(4), True), (Bilinear(4), True), (AbsDiff(4), False)])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_without_contrast_the_start_is_that_of_nn_linear(name, fusion, tied):
    torch.manual_seed(3)
    head = make_head(name, fusion, tied=tied)
    torch.manual_seed(3)
    last = nn.Linear(fusion.out_features if name == "linear" else 64, 1)
    first = last if name == "linear" else nn.Linear(fusion.out_features, 64)
    ours = head if name == "linear" else head[0]
    assert torch.equal(ours.weight, first.weight)


def test_with_two_encoders_a_similarity_still_starts_above_zero():
    """Cosine is bounded and would wait for its weight to grow; a distance between strangers says nothing."""
    head = make_head("linear", Stack([Cosine(4), AbsDiff(4)]), tied=False)
    assert (head.weight[0, 0].item(), head.bias.item()) == (6, 0)
    torch.manual_seed(0)
    default = nn.Linear(5, 1).weight[0, 1:]
    torch.manual_seed(0)
    assert torch.equal(make_head("linear", Stack([Cosine(4), AbsDiff(4)]), tied=False).weight[0, 1:], default)


def test_features_without_contrast_keep_their_start():
    """In a mixed stack only the features that have a contrast are set."""
    head = make_head("linear", Stack([Concat(3), Product(3)]))
    assert head.weight[0, :6].unique().numel() == 6
    assert torch.allclose(head.weight[0, 6:], torch.tensor(2.0))  # 6 / D


def test_unknown_head():
    with pytest.raises(ValueError, match="unknown head 'liner': did you mean 'linear'"):
        make_head("liner", Product(3))


LINEAR = nn.Linear(4, 4)
AFFINE = [
    LINEAR,
    nn.Identity(),
    nn.Sequential(),
    nn.Sequential(LINEAR, LINEAR),
    nn.Sequential(nn.Dropout(), LINEAR, nn.Identity(), nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(), LINEAR)),
    nn.Sequential(LINEAR, nn.Sigmoid()),
    nn.Sequential(LINEAR, nn.Dropout(), nn.Tanh(), nn.Sigmoid(), nn.Identity()),
    nn.Sequential(nn.Sequential(LINEAR, nn.ReLU())),
    nn.Sequential(nn.Dropout1d(), LINEAR, nn.ELU(), nn.LeakyReLU()),
    nn.LazyLinear(1),
    type("MySequential", (nn.Sequential,), {})(LINEAR),
    nn.utils.parametrizations.weight_norm(nn.Linear(4, 1)),
]
NOT_AFFINE = [
    nn.Sequential(LINEAR, nn.ReLU(), LINEAR),
    nn.Sequential(nn.Tanh(), LINEAR),
    nn.Sequential(LINEAR, nn.GELU()),  # falls before it rises: XNOR is within reach
    nn.Sequential(LINEAR, nn.LayerNorm(4), LINEAR),
    nn.Sequential(LINEAR, nn.Softmax(dim=-1)),
    nn.MultiheadAttention(4, 1),
    nn.Sequential(LINEAR, nn.LeakyReLU(-1.0)),  # the absolute value
    nn.Sequential(LINEAR, nn.ELU(-1.0)),
    type("Squares", (nn.Linear,), {"forward": lambda self, x: nn.Linear.forward(self, x) ** 2})(4, 1),
    nn.Sequential(LINEAR, type("Squared", (nn.Sigmoid,), {"forward": lambda self, x: x**2})()),
    nn.Sequential(type("Noise", (nn.Dropout,), {"forward": lambda self, x: x**2})(), LINEAR),
    type("Sums", (nn.Sequential,), {"forward": lambda self, x: self[0](x) ** 2})(LINEAR),
]


@pytest.mark.parametrize("head", AFFINE)
def test_affine_heads(head):
    assert is_monotone_affine(head)


def test_a_layer_with_another_forward_is_not_known_to_be_affine():
    layer = nn.Linear(4, 1)
    assert is_monotone_affine(layer)
    layer.forward = lambda x: (x**2).sum(-1, keepdim=True)
    assert not is_monotone_affine(layer)


@pytest.mark.parametrize("head", NOT_AFFINE)
def test_heads_not_known_to_be_affine(head):
    assert not is_monotone_affine(head)


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(3, 1),
        nn.Sequential(nn.Dropout(), nn.Linear(3, 1)),
        nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1)),
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)),
    ],
)
def test_width_of_the_first_layer(head):
    message = "head expects 3 features, but the fusion gives 4: begin it with a layer for 4, such as nn.Linear(4, ...)"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_head(head, 4)


class Doubles(nn.Linear):
    """Takes half the features that its weight suggests."""

    def forward(self, x):
        return super().forward(torch.cat([x, x**2], -1))


@pytest.mark.parametrize(
    "head",
    [nn.Linear(4, 1), nn.LazyLinear(1), nn.Identity(), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 1)), Doubles(8, 1)],
)
def test_widths_that_fit_or_cannot_be_told(head):
    check_head(head, 4)


@pytest.mark.parametrize("link", [nn.Sigmoid(), nn.Hardsigmoid(), nn.LogSigmoid(), nn.Softmax(-1), nn.LogSoftmax(-1)])
def test_a_head_returns_logits(link):
    with pytest.raises(ValueError, match=f"head must return logits, got a head that ends in {type(link).__name__}"):
        pf.SiameseComparator(nn.Linear(4, 4), "product", nn.Sequential(nn.Linear(4, 1), link))
