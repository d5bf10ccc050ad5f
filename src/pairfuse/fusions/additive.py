"""Fusions that are sums `g(u) + h(v)`. Under a linear head they cannot answer "same or different"."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["Concat", "Diff", "Mean", "Sum"]


@register_fusion("concat")
class Concat(Separable):
    r"""Put the embeddings side by side: `[u; v]`.

    Not symmetric; width D + D2; values unchanged. **Additive**: an affine head on it computes `g(u) + h(v)`, and no
    such sum can tell same from different (XNOR), for any encoder. `SiameseComparator` raises an error for this
    combination. A head with a hidden layer can tell same from different.

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
    def left(self, u: Tensor) -> Terms:
        return nn.functional.pad(u, (0, self.in2_features)), None

    @override
    def right(self, v: Tensor) -> Terms:
        return None, nn.functional.pad(v, (self.in_features, 0))

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v], dim=-1)


class OneSide(Separable):
    """One of the embeddings alone: `u`, or `v`. A concatenation is scored as the two side by side."""

    symmetry, additive, xnor = "none", True, "never"
    two_widths = True

    def __init__(self, in_features: int, in2_features: int, *, is_left: bool) -> None:
        nn.Module.__init__(self)  # nothing to check: the widths are those of a `Concat`, and this is made at every call
        self.in_features, self.in2_features = in_features, in2_features
        self.out_features = in_features if is_left else in2_features
        self.is_left = is_left

    @override
    def left(self, u: Tensor) -> Terms:
        return (u,) if self.is_left else (None,)

    @override
    def right(self, v: Tensor) -> Terms:
        return (None,) if self.is_left else (v,)


@register_fusion("sum")
class Sum(Separable):
    r"""Add the embeddings: `u + v`.

    Symmetric; width D; values unbounded. **Additive**: a linear head on it cannot tell same from different.

    References:
        Grover and Leskovec, *node2vec: Scalable Feature Learning for Networks*, KDD 2016, arXiv:1607.00653, for
        the average, which is half of this sum.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Sum(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([4., 2.])
    """

    symmetry, additive, xnor = "symmetric", True, "never"
    spans_sum = True

    @override
    def left(self, u: Tensor) -> Terms:
        return u, None

    @override
    def right(self, v: Tensor) -> Terms:
        return None, v


@register_fusion("mean")
class Mean(Separable):
    r"""Average the embeddings: `(u + v) / 2`.

    Symmetric; width D; values between those of u and v. **Additive**: a linear head on it cannot tell same from
    different.

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
    def left(self, u: Tensor) -> Terms:
        return u / 2, None

    @override
    def right(self, v: Tensor) -> Terms:
        return None, v / 2


@register_fusion("diff")
class Diff(Separable):
    r"""Subtract the right embedding from the left: `u − v`.

    Antisymmetric; width D; values unbounded, all 0 for `u = v`. **Additive**: a linear head on it cannot tell same
    from different, since "different" has two signs. Use it for ranking, where the question is which one is larger.

    References:
        Burges, Shaked, Renshaw et al., *Learning to Rank using Gradient Descent* (RankNet), ICML 2005.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Diff(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([-2., -6.])
    """

    symmetry, additive, xnor = "antisymmetric", True, "never"
    translation_invariant = True

    @override
    def left(self, u: Tensor) -> Terms:
        return u, None

    @override
    def right(self, v: Tensor) -> Terms:
        return None, -v
