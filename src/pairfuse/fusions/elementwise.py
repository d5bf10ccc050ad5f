"""Fusions that treat every coordinate by itself: product and absolute difference."""

import math

from torch import Tensor
from typing_extensions import override

from pairfuse.fusions.base import Fusion
from pairfuse.fusions.registry import register_fusion


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
    contrast = (1.0, 0.0)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return u * v


@register_fusion("abs-diff")
class AbsDiff(Fusion):
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
    contrast = (0.0, 2 / math.sqrt(math.pi))  # E|u − v| of a difference with variance 2

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u - v).abs()
