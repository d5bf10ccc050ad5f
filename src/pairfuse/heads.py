"""Heads: from fused features to logits. A plain `nn.Linear`, or an `nn.Sequential` that begins with one."""

import torch
from torch import Tensor, nn

from pairfuse._checks import unknown_name
from pairfuse.fusions import Fusion

HIDDEN_FEATURES = 64
START_LOGIT = 3.0  # a probability of 0.95 for a typical same pair, 0.05 for a typical different one

_PASSES_ON = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# Never decreasing, so that they cannot turn "more" into "less" for some partners only.
_MONOTONE = (
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU),
)
_PROBABILITIES = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)


def make_head(name: str, fusion: Fusion, *, tied: bool = True, like: Tensor | None = None) -> nn.Module:
    """Build the head `"linear"` or `"mlp"` for a fusion, started where it can learn.

    `"linear"` is `nn.Linear(F, 1)`; `"mlp"` is `nn.Linear(F, 64)`, `nn.ReLU`, `nn.Linear(64, 1)`.

    Of two identical inputs a head on `|u − v|` sees nothing but its own bias. The default bias is next to 0 and
    an optimiser moves it by a learning rate a step, so p(same) would stay near ½ for thousands of steps. Hence
    the linear head starts as the classifier that one would write by hand. Every fusion declares its `contrast`:
    the mean of its features over same pairs and over different pairs of standard normal embeddings. The weights
    of features with a contrast are proportional to it, and scale and bias are such that a typical same pair has
    logit +3 and a typical different pair −3. On `|u − v|`: bias +3, weights below 0. On `u ∘ v`: bias −3, weights
    above 0. On both together the two almost cancel: bias 0.4. Features without contrast keep the default of
    `nn.Linear`.

    All this holds for embeddings of about unit variance: if yours are far from it, end the encoder with a
    normalisation, such as `nn.BatchNorm1d` or `nn.LayerNorm`.

    With two encoders (`tied=False`) the two embeddings of a same pair have nothing in common yet, so that no
    contrast holds and every layer keeps the default of `nn.Linear`.

    The hidden layer of `"mlp"` keeps its default; its last bias starts where that of the linear head does: it is
    the answer for a pair of which all features are 0.

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

    contrasts = fusion.contrasts() if tied else []
    strength = sum((same - different) ** 2 for same, different in contrasts)
    if strength > 0:
        scale = 2 * START_LOGIT / strength
        weights = [scale * (same - different) for same, different in contrasts]
        typical = sum(weight * same for weight, (same, _) in zip(weights, contrasts, strict=True))
        nn.init.constant_(last.bias, START_LOGIT - typical)
        if head is last:
            start = torch.tensor([weights])
            with torch.no_grad():
                last.weight.copy_(start.where(start != 0, last.weight))
    return head if like is None else head.to(like)


def is_affine(head: nn.Module) -> bool:
    """Whether a head is provably affine, up to increasing functions at its end.

    Linear layers, batch normalisation (affine in eval mode), and dropout or identity between them, then any
    number of links such as a sigmoid. What is not known to be affine counts as not affine.
    """
    layers = list(_layers(head))
    while layers and _never_decreases(layers[-1]):
        layers.pop()
    return all(_is_affine_layer(layer) for layer in layers)


def _is_affine_layer(layer: nn.Module) -> bool:
    plain_linear = type(layer).forward is nn.Linear.forward  # a subclass may compute anything
    return plain_linear or isinstance(layer, (nn.BatchNorm1d, *_PASSES_ON))


def _never_decreases(layer: nn.Module) -> bool:
    slopes = [getattr(layer, name, 0) for name in ("negative_slope", "alpha")]  # of LeakyReLU, of ELU and CELU
    return isinstance(layer, _PASSES_ON) or (isinstance(layer, _MONOTONE) and min(slopes) >= 0)


def check_head(head: nn.Module, features: int) -> None:
    """Raise if the first linear layer does not take `features` inputs, or the last layer makes probabilities."""
    layers = [layer for layer in _layers(head) if not isinstance(layer, _PASSES_ON)]
    if not layers:
        return
    first, last = layers[0], layers[-1]
    if isinstance(first, nn.Linear) and not isinstance(first, nn.LazyLinear) and first.in_features != features:
        raise ValueError(
            f"head expects {first.in_features} features, but the fusion gives {features}: "
            f"begin it with nn.Linear({features}, ...)"
        )
    if isinstance(last, _PROBABILITIES):
        raise ValueError(
            f"head must return logits, got a head that ends in {type(last).__name__}: remove it, train with "
            "nn.BCEWithLogitsLoss, and call predict_proba for probabilities"
        )


def _layers(head: nn.Module) -> list[nn.Module]:
    """The layers of a head in order, nested `nn.Sequential`s unrolled."""
    if isinstance(head, nn.Sequential) and type(head).forward is nn.Sequential.forward:
        return [layer for part in head for layer in _layers(part)]
    return [head]
