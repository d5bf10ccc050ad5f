"""Image encoders: any classification backbone of torchvision, without its classifier."""

from types import ModuleType
from typing import Any, cast

from torch import nn

from pairfuse._checks import check_int, unknown_name


def vision_encoder(name: str, embedding_dim: int | None = None, weights: Any = None) -> nn.Module:
    """Build a torchvision classification model whose classifier is replaced: images in, embeddings out.

    The last linear layer is removed, or exchanged for a new one of `embedding_dim` outputs. Nothing else is
    touched: the model keeps its class and its parameters' names. A ReLU before the last layer (as in vgg) would
    leave embeddings that are zero in many coordinates, which `"product"` cannot compare: pass an
    `embedding_dim` there.

    Args:
        name: A name of `torchvision.models.list_models(module=torchvision.models)`, such as `"resnet18"`.
        embedding_dim: Width D of a new last linear layer; without it the embedding is what the classifier saw.
        weights: Passed to `torchvision.models.get_model`: None (random), `"DEFAULT"`, or a weights enum.

    Returns:
        A new module `(B, C, H, W)` → `(B, D)` for float images, with the attributes `embedding_dim` (D) and
        `item_ndim` (3), by which `SiameseComparator` knows it.

    Raises:
        ImportError: torchvision cannot be imported.
        TypeError: `embedding_dim` is no int.
        ValueError: The name, or that of the weights, is unknown, or `embedding_dim` is below 1.

    References:
        He, Zhang, Ren and Sun, *Deep Residual Learning for Image Recognition*, 2015, arXiv:1512.03385, for the
        resnets; torchvision's documentation cites the paper of every other family.

    Examples:
        >>> import torch, pairfuse as pf
        >>> encoder = pf.encoders.vision_encoder("resnet18", embedding_dim=64)
        >>> encoder(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64])
    """
    if embedding_dim is not None:
        check_int("vision_encoder", "embedding_dim", embedding_dim)
    models = _torchvision_models()
    names = models.list_models(module=models)
    if name not in names:
        raise unknown_name("torchvision classification model", name, names)
    if isinstance(weights, str):
        known = models.get_model_weights(name)
        if weights.removeprefix(f"{known.__name__}.") not in known.__members__:
            raise unknown_name(f"weights of {name}", weights, known.__members__)
    # Without weights these two families would warn of a default that is to change: say what it is.
    plain = name in ("googlenet", "inception_v3") and weights is None
    options = {"aux_logits": False, "init_weights": True} if plain else {}
    model: nn.Module = models.get_model(name, weights=weights, **options)
    _drop_auxiliary_classifiers(model)
    if isinstance(model, models.SqueezeNet):  # the one family that classifies by a convolution
        features: int = model.classifier[1].in_channels
        model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 1))
    path, classifier = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    width = classifier.in_features
    replacement = nn.Identity() if embedding_dim is None else nn.Linear(width, embedding_dim)
    model.set_submodule(path, replacement)
    model.embedding_dim = width if embedding_dim is None else embedding_dim  # type: ignore[assignment]
    model.item_ndim = 3  # type: ignore[assignment]
    return model


def _drop_auxiliary_classifiers(model: nn.Module) -> None:
    """Make googlenet and inception_v3 return one tensor in train mode, not extra logits beside it."""
    if hasattr(model, "aux_logits"):
        setattr(model, "aux_logits", False)  # noqa: B010 (nn.Module types its attributes as modules)
        for name in ("aux1", "aux2", "AuxLogits"):
            if hasattr(model, name):
                setattr(model, name, None)


def _torchvision_models() -> ModuleType:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: "operator torchvision::nms does not exist"
        raise ImportError(
            f"vision_encoder needs torchvision, which cannot be imported here ({type(error).__name__}: {error}). "
            "torch and torchvision must be of one release and one build: reinstall them together, "
            "from the same index, with `pip install --upgrade --force-reinstall torch torchvision`."
        ) from error
    return cast(ModuleType, models)
