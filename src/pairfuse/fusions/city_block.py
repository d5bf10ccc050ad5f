"""Absolute differences, maxima and minima. One city-block kernel scores all three."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from pairfuse._layers import apply_linear
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.registry import register_fusion

__all__ = ["AbsDiff", "Max", "Min"]

COORDINATES = 64  # of one distance: several distances of this size are faster than one of all (measured on a CPU)


@register_fusion("abs-diff")
class AbsDiff(Fusion):
    r"""Take the absolute difference coordinate by coordinate: `|u − v|`.

    Symmetric; width D; values in [0, ∞), all 0 for `u = v`. With tied encoders a linear layer on it can always
    tell same from different. For identical inputs the features are zero, so the logit is the bias of the head.
    `SiameseComparator` starts that bias above 0. With two encoders there is no such guarantee: if `u > v` in every
    coordinate, it equals the signed difference.

    References:
        Koch, Zemel and Salakhutdinov, *Siamese Neural Networks for One-shot Image Recognition*, ICML Deep
        Learning Workshop, 2015.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.AbsDiff(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([2., 6.])
    """

    symmetry, additive, xnor = "symmetric", False, "always"
    feature_means = (0.0, 2 / math.sqrt(math.pi))  # E|u − v| of a difference with variance 2
    translation_invariant = True

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u - v).abs()

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        return weighted_distances(u, v, weight)


@register_fusion("max")
class Max(Fusion):
    r"""Take the larger of the two, coordinate by coordinate: `max(u, v)`.

    Symmetric; width D; each value is one of u or v. A linear layer on it can tell same from different for two
    embeddings unless one of them is at least as large in every coordinate.

    References:
        Goodfellow, Warde-Farley, Mirza, Courville and Bengio, *Maxout Networks*, ICML 2013, arXiv:1302.4389,
        for the maximum of learned features.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Max(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, -4.0]))
        tensor([ 3., -2.])
    """

    symmetry, additive, xnor = "symmetric", False, "generic"
    xnor_with_sum = "always"

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.maximum(u, v)

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        return _halves(u, v, weight, weighted_distances(u, v, weight))


@register_fusion("min")
class Min(Fusion):
    r"""Take the smaller of the two, coordinate by coordinate: `min(u, v)`.

    Symmetric; width D; each value is one of u or v. A linear layer on it can tell same from different for two
    embeddings unless one of them is at least as large in every coordinate. For embeddings ≥ 0 with sum 1, the sum
    of the features is the histogram intersection.

    References:
        Swain and Ballard, *Color Indexing*, International Journal of Computer Vision 7(1), 1991.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Min(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, -4.0]))
        tensor([ 1., -4.])
    """

    symmetry, additive, xnor = "symmetric", False, "generic"
    xnor_with_sum = "always"

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.minimum(u, v)

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        return _halves(u, v, weight, -weighted_distances(u, v, weight))


def weighted_distances(u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """Return `Σ_d w_kd |u_id − v_jd|`: `(N, D)`, `(M, D)` and `(K, D)` → `(N, M, K)`.

    For one output these are city-block distances: one over the coordinates with weights above 0, one over the others.
    They need no memory for each pair and coordinate, and neither does the fused kernel while torch compiles. For
    several outputs or with gradients the N · M · D differences are computed, because there the kernel of the distances
    is slow, and it gives no gradient for weights that are 0.
    """
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (u, v, weight))
    if torch.compiler.is_compiling() or gradients or len(weight) > 1:
        return apply_linear((u[:, None] - v[None]).abs(), weight)
    wide = torch.promote_types(u.dtype, torch.float32)  # there is no kernel for half precision
    u, v, row = u.to(wide), v.to(wide), weight[0].to(wide)
    scores = u.new_zeros(u.shape[0], v.shape[0])
    for sign, coordinates in ((1, row > 0), (-1, ~(row > 0))):  # weights of 0 and NaN too: NaN must propagate
        for where in torch.split(coordinates.nonzero().squeeze(1), COORDINATES):
            size = row[where].abs()
            scores.add_(torch.cdist(u[:, where] * size, v[:, where] * size, p=1.0), alpha=sign)
    return scores[..., None].to(weight.dtype)


def _halves(u: Tensor, v: Tensor, weight: Tensor, distances: Tensor) -> Tensor:
    """Score max(u, v) = ½ (u + v + |u − v|), or min with −|u − v|."""
    return ((u @ weight.mT)[:, None] + v @ weight.mT + distances) / 2
