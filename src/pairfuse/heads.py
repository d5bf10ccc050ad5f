"""Heads map fused features to logits: an `nn.Linear`, or an `nn.Sequential` that begins with one."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._checks import unknown_name
from pairfuse._layers import is_altered, is_linear, is_plain, layers_of
from pairfuse.fusions import Fusion

HIDDEN_FEATURES = 64
START_GAP = 6.0  # between the logits of a typical different and a typical same pair; σ(±3) is 0.95, 0.05

_PASSES_ON = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# Never decreasing: they preserve the order of the logits.
_MONOTONE = (
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU),
)
_PROBABILITIES = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)
_ENOUGH_PAIRS = 8  # fewer logits than this may all be in [0, 1] by chance


def make_head(name: str, fusion: Fusion, *, tied: bool = True, like: Tensor | None = None) -> nn.Module:
    """Build the head `"linear"` or `"mlp"` for a fusion, initialized to suit it.

    `"linear"` is `nn.Linear(F, 1)`; `"mlp"` is `nn.Linear(F, 64)`, `nn.ReLU`, `nn.Linear(64, 1)`.

    For identical inputs `|u − v|` is zero, so the logit is the bias. The default bias is close to 0, and an optimizer
    moves it by about a learning rate per step: p(same) would stay near ½ for thousands of steps. So the linear head
    starts as a good classifier. It uses the `feature_means` of the fusion: the means of its features over same pairs
    and over different pairs of standard normal embeddings.

    - The weights are proportional to the difference of these two means. Their scale puts the logits of a typical same
      and a typical different pair 6 apart. They are above 0 on `u ∘ v`, below 0 on `|u − v|`.
    - The bias compensates for the features that are 0 for every same pair: 3 on `|u − v|`, 0 on `u ∘ v`, and on both
      together 3 times the distance's share of that difference, 1.7. Products do not contribute, since their size
      depends on the unknown scale of the embeddings.
    - Features without declared means keep the default of `nn.Linear`. So does the hidden layer of `"mlp"`; its last
      bias is that of the linear head.

    With two encoders (`tied=False`) the two embeddings of a same pair are unrelated at first. So the features of a
    distance keep the default of `nn.Linear`. Those of a similarity, which is higher for same pairs, start as with one
    encoder, and the encoders learn to agree with its sign. The bounded values of the cosine need large weights: with
    the default it took at least 335 steps, now it takes 10.

    Args:
        name: `"linear"` or `"mlp"`.
        fusion: The fusion whose features the head reads.
        tied: True if u and v come from one encoder.
        like: A tensor whose device and dtype the parameters get.

    Returns:
        A new module `(..., F)` → `(..., 1)`.

    Raises:
        ValueError: The name is unknown.

    Examples:
        >>> from pairfuse.fusions import AbsDiff
        >>> from pairfuse.heads import make_head
        >>> head = make_head("linear", AbsDiff(4))
        >>> head.bias.item(), bool((head.weight < 0).all())
        (3.0, True)
    """
    if name == "linear":
        last = nn.Linear(fusion.out_features, 1)
        head: nn.Module = last
    elif name == "mlp":
        last = nn.Linear(HIDDEN_FEATURES, 1)
        head = nn.Sequential(nn.Linear(fusion.out_features, HIDDEN_FEATURES), nn.ReLU(), last)
    else:
        raise unknown_name("head", name, ["linear", "mlp"])

    means = [
        (same, different) if tied or same > different else (0.0, 0.0) for same, different in fusion.all_feature_means()
    ]
    strength = sum((same - different) ** 2 for same, different in means)
    if strength > 0:
        weights = [START_GAP * (same - different) / strength for same, different in means]
        distances = sum(different**2 for same, different in means if same == 0)
        nn.init.constant_(last.bias, START_GAP / 2 * distances / strength)
        if head is last:
            start = torch.tensor([weights])
            with torch.no_grad():
                last.weight.copy_(start.where(start != 0, last.weight))
    return head if like is None else head.to(device=like.device, dtype=like.dtype)


def is_monotone_affine(head: nn.Module) -> bool:
    """True if a head is provably affine, except for never decreasing functions at its end.

    Such a head consists of linear layers, batch normalization (affine in eval mode), dropout and identity, then any
    number of functions such as a sigmoid. Every other layer counts as not affine.
    """
    layers = list(layers_of(head))
    while layers and _never_decreases(layers[-1]):
        layers.pop()
    return all(is_plain(layer, nn.Linear, nn.BatchNorm1d, *_PASSES_ON) for layer in layers)


def _never_decreases(layer: nn.Module) -> bool:
    slopes = [getattr(layer, name, 0) for name in ("negative_slope", "alpha")]  # of LeakyReLU, of ELU and CELU
    return is_plain(layer, *_PASSES_ON, *_MONOTONE) and min(slopes) >= 0


class SplitHead(NamedTuple):
    """A head as its first linear layer, `weight` `(H, F)` and `bias` `(H,)`, and the layers after it."""

    weight: Tensor
    bias: Tensor | None
    rest: list[nn.Module]


def split_head(head: nn.Module) -> SplitHead | None:
    """Return the first linear layer of a head and the layers after it; None if another layer comes first.

    Consecutive linear layers are merged, unless this makes the first one wider. Layers before and after them that do
    nothing in the current mode, such as dropout in eval mode, are left out.
    """
    split, layers = None, _skip(layers_of(head))
    while layers and is_linear(layers[0]) and (split is None or layers[0].out_features <= len(split.weight)):
        split = _merge(split, layers[0], layers := _skip(layers[1:]))
    return split


def _skip(layers: list[nn.Module]) -> list[nn.Module]:
    """Return the layers without those at the start that do nothing."""
    return next((layers[i:] for i, layer in enumerate(layers) if not _does_nothing(layer)), [])


def _merge(before: SplitHead | None, layer: nn.Linear, rest: list[nn.Module]) -> SplitHead:
    """Merge a linear layer with the one before it, if there is one."""
    if before is None:
        return SplitHead(layer.weight, layer.bias, rest)
    bias = layer.bias if before.bias is None else nn.functional.linear(before.bias, layer.weight, layer.bias)
    return SplitHead(layer.weight @ before.weight, bias, rest)


def _does_nothing(layer: nn.Module) -> bool:
    """True if a layer returns rows `(n, F)` unchanged in its current mode."""
    random = hasattr(layer, "p")
    flattens_less = isinstance(layer, nn.Flatten) and layer.start_dim != 1
    return is_plain(layer, *_PASSES_ON) and not (random and layer.training) and not flattens_less


def check_head(head: nn.Module, features: int) -> None:
    """Raise if the first layer does not take `features` inputs, or the last layer returns probabilities."""
    layers = [layer for layer in layers_of(head) if not is_plain(layer, *_PASSES_ON)]
    if not layers:
        return
    first, last = layers[0], layers[-1]
    width = _width_taken(first)
    if width not in (None, features):
        raise ValueError(
            f"head expects {width} features, but the fusion gives {features}: begin it with a layer for "
            f"{features}, such as nn.Linear({features}, ...)"
        )
    if isinstance(last, _PROBABILITIES):
        raise ValueError(
            f"head must return logits, got a head that ends in {type(last).__name__}: remove it, train with "
            "nn.BCEWithLogitsLoss, and call predict_proba for probabilities"
        )


def _width_taken(layer: nn.Module) -> int | None:
    """Return the number of features that a layer takes; None if it is unknown or, in a lazy layer, arbitrary."""
    if is_plain(layer, nn.Linear) and isinstance(layer, nn.Linear):
        return layer.in_features or None
    if isinstance(layer, nn.BatchNorm1d):
        return layer.num_features or None
    return layer.normalized_shape[-1] if isinstance(layer, nn.LayerNorm) else None


def warn_of_probabilities(head: nn.Module, outputs: Tensor) -> None:
    """Warn if the outputs of a head of the user's own look like probabilities: all of them are in [0, 1].

    A head that ends in an unaltered `nn.Linear` returns logits, whatever their values. So may any other head, if the
    pairs are few or have the same output; then there is no warning.
    """
    layers = [layer for layer in layers_of(head) if not is_plain(layer, *_PASSES_ON)]
    returns_logits = bool(layers) and is_linear(layers[-1]) and not is_altered(head)
    if returns_logits or len(outputs) < _ENOUGH_PAIRS:
        return
    least, largest = outputs.aminmax()
    if 0 <= least < largest <= 1:
        warnings.warn(
            f"predict_proba expects a head that returns logits, but all {outputs.numel()} outputs of "
            f"{type(head).__name__} are in [0, 1]: if they are probabilities already, remove the head's sigmoid or "
            "softmax, and train with a loss that takes logits",
            stacklevel=5,
        )
