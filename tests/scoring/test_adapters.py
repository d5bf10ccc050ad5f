"""Layers in a fusion that do not compute what their class says: scores of all pairs are those of forward."""

import pytest
import torch
from scoring_cases import assert_equal, paired, randn
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.testing._internal.two_tensor import TwoTensor

import pairfuse as pf
from pairfuse._layers import is_linear
from pairfuse.heads import split_head


class Doubles(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Adapter(nn.Module):
    """As LoRA wraps a layer: the base beside two small matrices."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(base.in_features, 2), nn.Linear(2, base.out_features)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def doubled(layer):
    return Doubles(layer.in_features, layer.out_features)


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    return layer


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", amount=0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("alter", [doubled, Adapter, hooked, pruned, parametrizations.orthogonal, weight_norm])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("low-rank-bilinear", "out"),
        ("low-rank-bilinear", "left_projection"),
        ("mfb", "right_projection"),
        ("ntn", "linear"),
    ],
)
def test_an_altered_layer_of_a_fusion_is_called(name, layer, alter):
    model = pf.SiameseComparator(nn.Identity(), name, embedding_dim=4)
    setattr(model.fusion, layer, alter(getattr(model.fusion, layer)))
    model = model.double().eval()
    u, v = randn(3, 4), randn(5, 4, seed=1)
    with torch.no_grad():
        assert_equal(model.score_matrix(u, v), paired(model, u, v), 1e-12)
        assert torch.equal(model.topk(u, v, k=2).indices, paired(model, u, v).topk(2).indices)


@pytest.mark.parametrize("alter", [doubled, Adapter, hooked])
def test_an_altered_head_is_called(alter):
    model = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=4)
    model.head = alter(model.head)
    model = model.double().eval()
    u, v = randn(3, 4), randn(5, 4, seed=1)
    with torch.no_grad():
        assert_equal(model.score_matrix(u, v), paired(model, u, v), 1e-12)


@pytest.mark.parametrize("fusion", ["product", "low-rank-bilinear", "ntn"])
def test_a_class_of_torch_that_is_patched_is_called(fusion, monkeypatch):
    """As tools that quantize or count do."""
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * forward(self, x))
    model = pf.SiameseComparator(nn.Identity(), fusion, "mlp", embedding_dim=4).double().eval()
    u, v = randn(3, 4), randn(5, 4, seed=1)
    with torch.no_grad():
        assert_equal(model.score_matrix(u, v), paired(model, u, v), 1e-12)


class CalledOtherwise(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_a_call_of_ones_own_and_global_hooks_are_honored():
    model = pf.SiameseComparator(nn.Identity(), "product", CalledOtherwise(4, 1), embedding_dim=4).double().eval()
    u, v = randn(3, 4), randn(5, 4, seed=1)
    with torch.no_grad():
        assert_equal(model.score_matrix(u, v), paired(model, u, v), 1e-12)
        model.head = nn.Linear(4, 1).double()
        double = lambda module, inputs, output: 2 * output if isinstance(module, nn.Linear) else None  # noqa: E731
        handle = nn.modules.module.register_module_forward_hook(double)
        try:
            assert_equal(model.score_matrix(u, v), paired(model, u, v), 1e-12)
        finally:
            handle.remove()


def test_an_adapter_in_a_fusion_has_no_inner_product_form():
    """The vectors in an index would be those of the layer without it."""
    model = pf.SiameseComparator(nn.Identity(), "low-rank-bilinear", embedding_dim=4)
    assert model.fusion.fast_path
    model.fusion.out = Adapter(model.fusion.out)
    assert not model.fusion.fast_path
    with pytest.raises(ValueError, match="expects a separable fusion"):
        model.inner_product_form()


@pytest.mark.parametrize("where", ["encoder", "head"])
def test_a_batch_norm_on_batch_statistics_is_refused(where):
    """Its scores would depend on the blocks in which all pairs are computed."""
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    encoder = nn.Sequential(nn.Linear(4, 4), norm) if where == "encoder" else nn.Linear(4, 4)
    head = nn.Sequential(norm, nn.Linear(4, 1)) if where == "head" else "linear"
    model = pf.SiameseComparator(encoder, "product", head, embedding_dim=4)
    for call in (
        lambda x: model.score_matrix(x, x),
        lambda x: model.topk(x, x, 1),
        lambda x: pf.Gallery(model, x).scores(),
    ):
        with pytest.raises(
            ValueError, match="BatchNorm1d with track_running_stats=False normalizes each batch by itself"
        ):
            call(torch.randn(6, 4))


def test_a_weight_of_a_tensor_subclass_is_not_read():
    """Quantized and sharded weights know how to be called, and not every operator; here a pair of tensors stands in."""
    layer = nn.Linear(4, 1)
    assert is_linear(layer)
    layer.weight = nn.Parameter(TwoTensor(layer.weight.detach(), layer.weight.detach()))
    assert not is_linear(layer)
    assert split_head(layer) is None
