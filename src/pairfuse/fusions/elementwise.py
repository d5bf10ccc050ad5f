"""Fusions that treat every coordinate by itself: product, differences without sign, the larger, the smaller."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from pairfuse.fusions._distances import numbers_per_distance, weighted_distances
from pairfuse.fusions._shift import ShiftInvariant
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.factors import Factors, factors_of_sums, score_pairs
from pairfuse.fusions.registry import register_fusion

__all__ = ["AbsDiff", "Max", "Min", "Product", "SquaredDiff"]


@register_fusion("product")
class Product(Fusion):
    r"""Multiply the embeddings coordinate by coordinate (the Hadamard product): `u ∘ v`.

    Symmetric; width D; values unbounded. A linear layer on it can tell same from different for two embeddings a, b
    unless `b_k : a_k` is one common ratio in [0, ∞] over all coordinates where they differ: so never for
    embeddings of the same direction, nor where one of them is zero wherever they differ (after a ReLU, say).

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

    References:
        Yang, Yih, He, Gao and Deng, *Embedding Entities and Relations for Learning and Inference in Knowledge
        Bases* (DistMult), 2014, arXiv:1412.6575.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Product(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 3., -8.])
    """

    symmetry, additive, xnor = "symmetric", False, "generic"
    xnor_with_sum = "always"
    feature_means = (1.0, 0.0)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return u * v

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        return Factors(u * weight[:, None], v[None])


@register_fusion("abs-diff")
class AbsDiff(ShiftInvariant):
    r"""Take the absolute difference coordinate by coordinate: `|u − v|`.

    Symmetric; width D; values in [0, ∞), all 0 for `u = v`. With tied encoders a linear layer on it can always
    tell same from different; of two identical inputs it sees nothing but its own bias, which is why
    `SiameseComparator` starts that bias above 0. With two encoders there is no such guarantee: where `u > v` in
    every coordinate it *is* the signed difference.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

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

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u - v).abs()

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        return weighted_distances(*self.shift(u, v), weight)

    @override
    def numbers_per_pair(self, outputs: int) -> int:
        return numbers_per_distance(self.in_features, outputs)


@register_fusion("squared-diff")
class SquaredDiff(ShiftInvariant):
    r"""Square the difference coordinate by coordinate: `(u − v)²`.

    Symmetric; width D; values in [0, ∞), all 0 for `u = v`. With tied encoders a linear layer on it can always
    tell same from different; with weights 1 it is the squared Euclidean distance. Like `AbsDiff` it leaves two
    identical inputs to the head's bias.

    All pairs are scored by expanding the square around the middle of the right embeddings, so that the rounding is
    relative to the squared distances *from there*: for near-duplicates in clusters that are far apart use float64.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

    References:
        Grover and Leskovec, *node2vec: Scalable Feature Learning for Networks*, KDD 2016, arXiv:1607.00653.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.SquaredDiff(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 4., 36.])
    """

    symmetry, additive, xnor = "symmetric", False, "always"
    feature_means = (0.0, 2.0)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u - v).square()

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        u, v = self.shift(u, v)
        return Factors(-2 * u * weight[:, None], v[None], u.square() @ weight.mT, v.square() @ weight.mT)


@register_fusion("max")
class Max(Fusion):
    r"""Take the larger of the two, coordinate by coordinate: `max(u, v)`.

    Symmetric; width D; values among those of u and v. A linear layer on it can tell same from different for two
    embeddings unless one of them is at least as large in every coordinate.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

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
        return _half_of(u @ weight.mT, v @ weight.mT, weighted_distances(u, v, weight))

    @override
    def numbers_per_pair(self, outputs: int) -> int:
        return numbers_per_distance(self.in_features, outputs) + outputs


@register_fusion("min")
class Min(Fusion):
    r"""Take the smaller of the two, coordinate by coordinate: `min(u, v)`.

    Symmetric; width D; values among those of u and v. A linear layer on it can tell same from different for two
    embeddings unless one of them is at least as large in every coordinate. For embeddings ≥ 0 with sum 1 the sum
    of the features is the histogram intersection.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

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
        return _half_of(u @ weight.mT, v @ weight.mT, -weighted_distances(u, v, weight))

    @override
    def numbers_per_pair(self, outputs: int) -> int:
        return numbers_per_distance(self.in_features, outputs) + outputs


def _half_of(row: Tensor, column: Tensor, distances: Tensor) -> Tensor:
    """max(u, v) = ½ (u + v + |u − v|), and min with a minus."""
    return (score_pairs(factors_of_sums(row, column)) + distances) / 2
