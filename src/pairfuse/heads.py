"""Heads: from fused features to logits. A plain `nn.Linear`, or an `nn.Sequential` that begins with one."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._checks import unknown_name
from pairfuse._layers import is_linear, is_plain, layers_of
from pairfuse.fusions import Fusion

HIDDEN_FEATURES = 64
START_GAP = 6.0  # from the logit of a typical different pair to that of a typical same pair; σ(±3) is 0.95, 0.05

_PASSES_ON = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# Never decreasing, so that they cannot turn "more" into "less" for some partners only.
_MONOTONE = (
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU),
)
_PROBABILITIES = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)
# How autograd names the functions that return probabilities, and those that return the same numbers in another shape.
_RETURN_PROBABILITIES = ("SigmoidBackward", "HardsigmoidBackward", "SoftmaxBackward", "LogSigmoidBackward")
_RESHAPES = ("Squeeze", "Unsqueeze", "View", "UnsafeView", "ReshapeAlias", "Select", "Slice", "ToCopy", "Clone")


def make_head(name: str, fusion: Fusion, *, tied: bool = True, like: Tensor | None = None) -> nn.Module:
    """Build the head `"linear"` or `"mlp"` for a fusion, started where it can learn.

    `"linear"` is `nn.Linear(F, 1)`; `"mlp"` is `nn.Linear(F, 64)`, `nn.ReLU`, `nn.Linear(64, 1)`.

    Of two identical inputs a head on `|u − v|` sees nothing but its own bias. The default bias is next to 0 and
    an optimiser moves it by a learning rate a step, so p(same) would stay near ½ for thousands of steps. Hence
    the linear head starts as the classifier that one would write by hand. Every fusion declares its `feature_means`:
    the mean of its features over same pairs and over different pairs of standard normal embeddings.

    - The weights are proportional to the difference of the two, and such that the logits of a typical same pair and
      of a typical different pair are 6 apart: above 0 on `u ∘ v`, below 0 on `|u − v|`.
    - The bias stands in for the features that are 0 for every same pair: 3 on `|u − v|`, 0 on `u ∘ v`, and on both
      together 3 times the distance's share of that difference, 1.7. It would be wrong to set it by the
      products too, since their size depends on the scale of the embeddings, which is not known.
    - Features whose means say nothing keep the default of `nn.Linear`, as does the hidden layer of `"mlp"`; its last
      bias is that of the linear head.

    With two encoders (`tied=False`) the two embeddings of a same pair have nothing in common yet, so that a distance
    says nothing, and its features keep the default of `nn.Linear`. A similarity, higher for same pairs, starts as with
    one encoder: the encoders learn to agree with its sign. For the cosine this matters, whose bounded values need large
    weights: with the default it took 335 steps and more where it now takes 10.

    Args:
        name: `"linear"` or `"mlp"`.
        fusion: The fusion whose features the head reads.
        tied: Whether u and v come from one encoder.
        like: A tensor whose device and dtype the parameters get.

    Returns:
        A new module `(..., F)` → `(..., 1)`.

    Raises:
        ValueError: The name is neither.

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
    """Whether a head is provably affine, up to never decreasing functions at its end.

    Linear layers, batch normalisation (affine in eval mode), and dropout or identity between them, then any
    number of links such as a sigmoid. What is not known to be affine counts as not affine.
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
    """A head as its first linear layer and the layers after it; None if what it begins with is something else.

    Linear layers that follow one another are one, unless it would be wider. Layers before and after them that pass
    everything on in the present mode, such as dropout in eval mode, are left out.
    """
    split, layers = None, _skip(layers_of(head))
    while layers and is_linear(layers[0]) and (split is None or layers[0].out_features <= len(split.weight)):
        split = _merge(split, layers[0], layers := _skip(layers[1:]))
    return split


def _skip(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers from the first on that does something."""
    return next((layers[i:] for i, layer in enumerate(layers) if not _does_nothing(layer)), [])


def _merge(before: SplitHead | None, layer: nn.Linear, rest: list[nn.Module]) -> SplitHead:
    """A linear layer, and the one before it, if there is one, as one."""
    if before is None:
        return SplitHead(layer.weight, layer.bias, rest)
    bias = layer.bias if before.bias is None else nn.functional.linear(before.bias, layer.weight, layer.bias)
    return SplitHead(layer.weight @ before.weight, bias, rest)


def _does_nothing(layer: nn.Module) -> bool:
    """Whether a layer hands on rows `(n, F)` as they are, in its present mode."""
    random = hasattr(layer, "p")
    flattens_less = isinstance(layer, nn.Flatten) and layer.start_dim != 1
    return is_plain(layer, *_PASSES_ON) and not (random and layer.training) and not flattens_less


def check_head(head: nn.Module, features: int) -> None:
    """Raise if the first layer does not take `features` inputs, or the last layer makes probabilities."""
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
    """How many features a layer takes, where it is of a kind that tells; 0 in a lazy layer means any."""
    if is_plain(layer, nn.Linear) and isinstance(layer, nn.Linear):
        return layer.in_features or None
    if isinstance(layer, nn.BatchNorm1d):
        return layer.num_features or None
    return layer.normalized_shape[-1] if isinstance(layer, nn.LayerNorm) else None


def refuse_probabilities(head: nn.Module, features: int) -> None:
    """Raise if a head with a class of its own ends in a sigmoid or softmax. `check_head` knows the layers of torch."""
    if all(type(module).__module__.startswith("torch.nn.") for module in head.modules()):
        return
    weight = next(head.parameters(), None)
    if weight is None:
        return
    with torch.inference_mode(False), torch.enable_grad():
        try:
            fused = torch.zeros(2, features, dtype=weight.dtype, device=weight.device, requires_grad=True)
            node = head.forward(fused).grad_fn
        except Exception:  # calling the model reports what is wrong
            return
    while node is not None and node.name().startswith(_RESHAPES):
        node = node.next_functions[0][0]
    if node is not None and node.name().startswith(_RETURN_PROBABILITIES):
        raise ValueError(
            f"predict_proba expects a head that returns logits, got {type(head).__name__}, which ends in "
            f"{node.name().partition('Backward')[0].lower()}: remove it, and train with a loss that takes logits"
        )
