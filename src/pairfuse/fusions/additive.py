"""Fusions that are sums `g(u) + h(v)`: none of them can answer "same or different" under a linear head."""

import torch
from torch import Tensor
from typing_extensions import override

from pairfuse.fusions._shift import ShiftInvariant
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.factors import Factors, factors_of_sums
from pairfuse.fusions.registry import register_fusion

__all__ = ["Concat", "Diff", "Mean", "Sum"]


@register_fusion("concat")
class Concat(Fusion):
    r"""Put the embeddings side by side: `[u; v]`.

    Not symmetric; width D + D2; values as they were. **Additive**: an affine head on it computes `g(u) + h(v)`,
    and no such sum can tell same from different (XNOR), whatever the encoder. `SiameseComparator` therefore
    refuses the two together. A head with a hidden layer can.

    Args:
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`; D by default.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`
        - Output: `(..., D + D2)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: Their widths are not D and D2, or their leading dimensions differ.

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969, for what a sum of parts cannot compute.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Concat(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 1., -2.,  3.,  4.])
    """

    symmetry, additive, xnor = "none", True, "never"
    spans_sum = two_widths = True

    def __init__(self, in_features: int, *, in2_features: int | None = None) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = self.in_features + self.in2_features

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v], dim=-1)

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        of_u, of_v = weight[:, : self.in_features], weight[:, self.in_features :]
        return factors_of_sums(u @ of_u.mT, v @ of_v.mT)


@register_fusion("sum")
class Sum(Fusion):
    r"""Add the embeddings: `u + v`.

    Symmetric; width D; values unbounded. **Additive**: a linear head on it cannot tell same from different.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

    References:
        Grover and Leskovec, *node2vec: Scalable Feature Learning for Networks*, KDD 2016, arXiv:1607.00653, whose
        average it is, up to the factor.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Sum(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([4., 2.])
    """

    symmetry, additive, xnor = "symmetric", True, "never"
    spans_sum = True

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return u + v

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        return factors_of_sums(u @ weight.mT, v @ weight.mT)


@register_fusion("mean")
class Mean(Fusion):
    r"""Average the embeddings: `(u + v) / 2`.

    Symmetric; width D; values between those of u and v. **Additive**: a linear head on it cannot tell same from
    different.

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
        >>> pf.fusions.Mean(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([2., 1.])
    """

    symmetry, additive, xnor = "symmetric", True, "never"
    spans_sum = True

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return (u + v) / 2

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        return factors_of_sums(u @ weight.mT / 2, v @ weight.mT / 2)


@register_fusion("diff")
class Diff(ShiftInvariant):
    r"""Subtract the right embedding from the left: `u − v`.

    Antisymmetric; width D; values unbounded, all 0 for `u = v`. **Additive**: a linear head on it cannot tell same
    from different, since "different" has two signs. Right for a ranking, where the question is which is larger.

    Args:
        in_features: Width D of both embeddings.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., D)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: The embeddings differ in shape, or from D in width.

    References:
        Burges, Shaked, Renshaw et al., *Learning to Rank using Gradient Descent* (RankNet), ICML 2005.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Diff(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([-2., -6.])
    """

    symmetry, additive, xnor = "antisymmetric", True, "never"

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return u - v

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        u, v = self.shift(u, v)
        return factors_of_sums(u @ weight.mT, -v @ weight.mT)
