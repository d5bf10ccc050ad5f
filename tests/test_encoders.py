"""Every classification backbone of torchvision, without its classifier."""

import builtins
import sys

import pytest
import torch
from torch import nn
from torchvision import models

import pairfuse as pf

FAMILIES = ["resnet18", "alexnet", "densenet121", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32", "swin_t"]
REGNETS = ["regnet_x_400mf", "regnet_y_400mf"]  # the others are these two, larger
BACKBONES = [name for name in models.list_models(module=models) if "regnet" not in name] + REGNETS
SPECIAL = ["googlenet", "inception_v3", "regnet_x_400mf"]  # auxiliary classifiers; another size; widths from tensors


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in {*FAMILIES, *SPECIAL} else [pytest.mark.slow]) for n in BACKBONES],
)
@pytest.mark.parametrize("embedding_dim", [None, 7])
def test_every_backbone(name, embedding_dim):
    """On the meta device, which computes shapes only: (B, D) comes out, in train mode too, and D is known."""
    with torch.device("cpu" if name in REGNETS else "meta"):  # a regnet computes its widths with tensors
        encoder = pf.encoders.vision_encoder(name, embedding_dim)
    size = 299 if name == "inception_v3" else 224
    embeddings = encoder.to("meta").train()(torch.empty(2, 3, size, size, device="meta"))
    assert embeddings.shape == (2, encoder.embedding_dim)
    assert embedding_dim in (None, encoder.embedding_dim)
    assert encoder.item_ndim == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_are_what_the_classifier_saw(name):
    """With the same weights, the removed classifier on our embedding gives the original logits."""
    torch.manual_seed(1)
    original = models.get_model(name).eval()
    torch.manual_seed(1)
    encoder = pf.encoders.vision_encoder(name).eval()
    x = torch.rand(1, 3, 224, 224)
    seen = []
    last = [module for module in original.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        original(x)
        embeddings = encoder(x)
    expected = seen[0].mean((2, 3)) if seen[0].ndim == 4 else seen[0]
    torch.testing.assert_close(embeddings, expected)


def test_a_comparator_knows_the_encoder():
    model = pf.SiameseComparator(pf.encoders.vision_encoder("resnet18", embedding_dim=16))
    assert model.fusion.in_features == 16
    assert model.item_ndim == 3
    assert model.eval()(torch.rand(3, 32, 32), torch.rand(3, 32, 32)).shape == ()


def test_weights_are_passed_on(monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append(weights)
        return models.resnet18()

    monkeypatch.setattr(models, "get_model", get_model)
    pf.encoders.vision_encoder("resnet18", weights="DEFAULT")
    assert asked == ["DEFAULT"]


def test_auxiliary_classifiers_of_pretrained_models_are_dropped(monkeypatch):
    """With weights, torchvision builds googlenet and inception with them."""
    monkeypatch.setattr(
        models, "get_model", lambda name, weights: models.googlenet(aux_logits=True, init_weights=False)
    )
    with torch.device("meta"):
        encoder = pf.encoders.vision_encoder("googlenet", weights="DEFAULT").train()
        assert encoder(torch.empty(2, 3, 224, 224)).shape == (2, 1024)
    assert not [key for key in encoder.state_dict() if key.startswith("aux")]


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown torchvision classification model 'resnet19': did you mean 'resnet1"):
        pf.encoders.vision_encoder("resnet19")
    with pytest.raises(ValueError, match="unknown torchvision classification model 'fcn_resnet50'"):
        pf.encoders.vision_encoder("fcn_resnet50")  # segmentation
    for name in (None, models.resnet18):
        with pytest.raises(ValueError, match="unknown torchvision classification model"):
            pf.encoders.vision_encoder(name)
    with pytest.raises(ValueError, match="unknown weights of resnet18 'IMAGENET': did you mean 'IMAGENET1K_V1'"):
        pf.encoders.vision_encoder("resnet18", weights="IMAGENET")
    with pytest.raises(ValueError, match="vision_encoder expects embedding_dim to be at least 1, got 0"):
        pf.encoders.vision_encoder("resnet18", embedding_dim=0)


@pytest.mark.parametrize(
    "error", [ImportError("no such file"), RuntimeError("operator torchvision::nms does not exist")]
)
def test_a_broken_torchvision_names_the_cure(monkeypatch, error):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.startswith("torchvision"):
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=rf"{error}\).*pip install --upgrade --force-reinstall torch torchvision"):
        pf.encoders.vision_encoder("resnet18")
