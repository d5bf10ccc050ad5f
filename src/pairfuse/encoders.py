"""Encoders: torchvision models without their classifier, and transformers with a pooled output."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int, check_module, unknown_name


class Pooled(nn.Module):
    """Return one embedding per item from a model of the transformers library.

    Such a model returns a `ModelOutput` of several tensors, most of them with a vector for each token. `Pooled` returns
    one tensor `(B, D)`.

    Args:
        model: A module whose output has `last_hidden_state` `(B, L, D)`, such as `AutoModel.from_pretrained(...)`.
        pooling: The embedding to return.

            - `"mean"`: the mean over the tokens. Padding is left out if the input has an `attention_mask` `(B, L)`.
            - `"cls"`: the vector of the first token.
            - Any other value is the name of an output that already is an embedding, such as `"pooler_output"` or
              `"image_embeds"`.
        embedding_dim: Width D of the embedding. By default `model.config.hidden_size`.

    Shape:
        - x: a mapping such as a tokenizer's output, passed as keyword arguments; or a tensor, such as pixels
        - Output: `(B, D)`

    Raises:
        TypeError: `model` is not a module.
        ValueError: The width is unknown, or the model's output does not have the named tensor.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from types import SimpleNamespace
        >>> class Model(torch.nn.Module):  # stands for AutoModel.from_pretrained(...)
        ...     def forward(self, input_ids, attention_mask):
        ...         return SimpleNamespace(last_hidden_state=input_ids[..., None].expand(-1, -1, 8).float())
        >>> tokens = {"input_ids": torch.tensor([[5, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
        >>> pf.encoders.Pooled(Model(), embedding_dim=8)(tokens)
        tensor([[6., 6., 6., 6., 6., 6., 6., 6.]])
    """

    def __init__(self, model: nn.Module, pooling: str = "mean", *, embedding_dim: int | None = None) -> None:
        super().__init__()
        check_module("Pooled", "model", model)
        width = getattr(getattr(model, "config", None), "hidden_size", None) if embedding_dim is None else embedding_dim
        if width is None:
            raise ValueError(f"Pooled cannot find the width of {type(model).__name__}: pass embedding_dim=...")
        self.model, self.pooling = model, pooling
        self.embedding_dim = check_int("Pooled", "embedding_dim", width)

    @override
    def forward(self, x: Tensor | Mapping[str, Tensor], /) -> Tensor:
        """Embed a batch: `(B, D)`."""
        output = self.model(**x) if isinstance(x, Mapping) else self.model(x)
        name = "last_hidden_state" if self.pooling in ("mean", "cls") else self.pooling
        states: Any = getattr(output, name, None)  # (B, L, D), or (B, D) of any other name
        if not isinstance(states, Tensor):  # a method too, such as the `max` of a tensor
            names = ", ".join(getattr(output, "keys", list)())
            raise ValueError(
                f"Pooled expects {type(self.model).__name__} to return a tensor {name}, got {type(output).__name__} "
                f"with {names or 'no names'}: pass pooling='mean', 'cls' or the name of such a tensor"
            )
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling != "mean":
            return states
        mask = x.get("attention_mask") if isinstance(x, Mapping) else None
        if mask is None:
            return states.mean(1)
        weights = mask.unsqueeze(-1).to(states.dtype)  # (B, L, 1)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)

    @override
    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}, embedding_dim={self.embedding_dim}"


def vision_encoder(name: str, embedding_dim: int | None = None, weights: Any = None) -> nn.Module:
    """Build a torchvision classification model that returns embeddings.

    The last linear layer is removed, or replaced by a new one with `embedding_dim` outputs, and so is the convolution
    with which a squeezenet classifies. Auxiliary classifiers, of googlenet and inception_v3, are removed. Nothing else
    changes: the model keeps its class and the names of its other parameters. If there is a ReLU before the last layer
    (as in vgg), pass `embedding_dim`: otherwise many coordinates of the embeddings are zero, and `"product"` cannot
    compare them.

    Args:
        name: A name of `torchvision.models.list_models(module=torchvision.models)`, such as `"resnet18"`.
        embedding_dim: Width D of a new last linear layer; by default the embedding is the input of the classifier.
        weights: Passed to `torchvision.models.get_model`: None (random), `"DEFAULT"`, or a weights enum.

    Returns:
        A new module `(B, C, H, W)` → `(B, D)` for float images, with the attributes `embedding_dim` (D) and
        `item_ndim` (3), which `SiameseComparator` reads.

    Raises:
        ImportError: torchvision cannot be imported.
        TypeError: `embedding_dim` is not an int.
        ValueError: The name of the model or of the weights is unknown, or `embedding_dim` is below 1.

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
    # Without weights these two families warn about a default that will change, so pass it explicitly.
    plain = name in ("googlenet", "inception_v3") and weights is None
    options = {"aux_logits": False, "init_weights": True} if plain else {}
    model: nn.Module = models.get_model(name, weights=weights, **options)
    _drop_auxiliary_classifiers(model)
    if isinstance(model, models.SqueezeNet):  # the only family that classifies with a convolution
        features: int = model.classifier[1].in_channels
        model.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 1))
    path, classifier = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    width = classifier.in_features
    replacement = nn.Identity() if embedding_dim is None else nn.Linear(width, embedding_dim)
    model.set_submodule(path, replacement)
    model.embedding_dim = width if embedding_dim is None else embedding_dim  # type: ignore[assignment]
    model.item_ndim = 3  # type: ignore[assignment]
    # What rebuilds it, without the weights, when a saved model is loaded.
    model.made_by_vision_encoder = {"name": name, "embedding_dim": embedding_dim}  # type: ignore[assignment]
    return model


def _drop_auxiliary_classifiers(model: nn.Module) -> None:
    """Make googlenet and inception_v3 return one tensor in train mode, without extra logits."""
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
            "torch and torchvision must be of the same release and build: reinstall them together, "
            "from the same index, with `pip install --upgrade --force-reinstall torch torchvision`."
        ) from error
    return cast(ModuleType, models)
