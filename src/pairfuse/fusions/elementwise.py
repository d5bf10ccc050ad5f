"""Products and squares, coordinate by coordinate."""

from torch import Tensor
from typing_extensions import override

from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["Product", "SquaredDiff"]


@register_fusion("product")
class Product(Separable):
    r"""Multiply the embeddings coordinate by coordinate (the Hadamard product): `u ∘ v`.

    Symmetric; width D; values unbounded. A linear layer on it can tell same from different for two embeddings a, b
    unless `b_k : a_k` is one common ratio in [0, ∞] over all coordinates where they differ. So it cannot for
    embeddings of the same direction, or if one of them is zero wherever they differ (for example after a ReLU).

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
    def left(self, u: Tensor) -> Terms:
        return (u,)

    @override
    def right(self, v: Tensor) -> Terms:
        return (v,)


@register_fusion("squared-diff")
class SquaredDiff(Separable):
    r"""Square the difference coordinate by coordinate: `(u − v)²`.

    Symmetric; width D; values in [0, ∞), all 0 for `u = v`. With tied encoders a linear layer on it can always
    tell same from different. With weights 1 it is the squared Euclidean distance. For identical inputs the features
    are zero, so the logit is the bias of the head, as for `AbsDiff`.

    All pairs are scored by expanding the square around the mean of the right embeddings. So the rounding error is
    relative to the squared distances from that mean. For near-duplicates in clusters that are far apart use float64.

    References:
        Grover and Leskovec, *node2vec: Scalable Feature Learning for Networks*, KDD 2016, arXiv:1607.00653.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.SquaredDiff(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 4., 36.])
    """

    symmetry, additive, xnor = "symmetric", False, "always"
    feature_means = (0.0, 2.0)
    translation_invariant = True

    @override
    def left(self, u: Tensor) -> Terms:
        return u.square(), -2 * u, None

    @override
    def right(self, v: Tensor) -> Terms:
        return None, v, v.square()

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u - v).square()
