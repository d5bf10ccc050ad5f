"""Bilinear forms of low rank: project both sides, multiply, pool."""

from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int
from pairfuse._layers import is_linear
from pairfuse.fusions.facts import Symmetry
from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["LowRankBilinear", "MFB"]

_TANH_VARIANCE = 0.394  # of tanh(z) for a standard normal z


class _Projections(Separable):
    """One projection into a common space for each side, or one for both (tied)."""

    symmetry: Symmetry = "none"  # of the class; instances with tied=True are symmetric
    additive, xnor = False, "always"
    two_widths = True
    summed = True

    def __init__(
        self,
        in_features: int,
        in2_features: int | None,
        projected: int,
        *,
        tied: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(in_features, in2_features=in2_features)
        if tied:
            self._require_one_width("tied=True")
        self.tied = tied
        if tied:
            self.symmetry = "symmetric"
        self.two_widths = not tied
        self.left_projection = nn.Linear(self.in_features, projected, device=device, dtype=dtype)
        self.right_projection = None if tied else nn.Linear(self.in2_features, projected, device=device, dtype=dtype)

    def project_left(self, u: Tensor) -> Tensor:
        """Return `Au + a`: `(..., D)` → `(..., projected)`."""
        return self.left_projection(u)  # type: ignore[no-any-return]

    def project_right(self, v: Tensor) -> Tensor:
        """Return `Bv + b`, or `Av + a` if tied."""
        return self.project_left(v) if self.right_projection is None else self.right_projection(v)

    def reset_projections(self, variance: float) -> None:
        """Draw both projections so that inputs of unit variance give this variance. Set the biases to 0."""
        for layer in (self.left_projection, self.right_projection):
            if layer is not None:
                nn.init.normal_(layer.weight, std=(variance / layer.in_features) ** 0.5)
                nn.init.zeros_(layer.bias)


@register_fusion("low-rank-bilinear")
class LowRankBilinear(_Projections):
    r"""Project both sides into R dimensions, multiply, and mix: `P (σ(Au + a) ∘ σ(Bv + b)) + p`.

    Each feature is a sum of R products of one number from each side (MLB). Symmetric iff `tied=True`, where B = A
    and b = a. Values unbounded. With the biases, a linear layer on it can always tell same from different for some
    parameters, even at rank 1. `R · (D + D2 + 2) + F · (R + 1)` parameters, fewer when tied.

    The weights are normally distributed, so embeddings of unit variance give features of about unit variance. None
    of them starts at 0, since two factors of 0 would never get a gradient.

    Args:
        out_features: Number F of features. A single feature under a linear head is a bottleneck. It may start so close
            to 0 that nothing is learned (in one of five runs on digits).
        rank: Number R of products, at least 1.
        activation: σ: `"tanh"` as in the paper, or None for a bilinear form.
        tied: If True, project both sides by one matrix, so swapping the inputs changes nothing. Needs D2 = D.

    References:
        Kim, On, Lim, Kim, Ha and Zhang, *Hadamard Product for Low-rank Bilinear Pooling*, ICLR 2017,
        arXiv:1610.04325.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.LowRankBilinear(64, 16, rank=8, tied=True)
        >>> fusion(torch.randn(5, 64), torch.randn(5, 64)).shape, fusion.symmetry
        (torch.Size([5, 16]), 'symmetric')
    """

    def __init__(
        self,
        in_features: int,
        out_features: int = 16,
        *,
        in2_features: int | None = None,
        rank: int = 16,
        activation: Literal["tanh"] | None = "tanh",
        tied: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        rank = check_int("LowRankBilinear", "rank", rank)
        if activation not in ("tanh", None):
            raise ValueError(f"LowRankBilinear expects activation to be 'tanh' or None, got {activation!r}")
        super().__init__(in_features, in2_features, rank, tied=tied, device=device, dtype=dtype)
        self.out_features = check_int("LowRankBilinear", "out_features", out_features)
        self.rank = rank
        self.activation = activation
        self.out = nn.Linear(rank, self.out_features, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights so that unit variance gives about unit variance. Set the biases to 0."""
        self.reset_projections(variance=1.0)
        product_variance = 1.0 if self.activation is None else _TANH_VARIANCE**2
        nn.init.normal_(self.out.weight, std=(self.rank * product_variance) ** -0.5)
        nn.init.zeros_(self.out.bias)

    @override
    def project_left(self, u: Tensor) -> Tensor:
        return self._activate(super().project_left(u))

    @override
    def project_right(self, v: Tensor) -> Tensor:
        return self.project_left(v) if self.right_projection is None else self._activate(super().project_right(v))

    def _activate(self, projected: Tensor) -> Tensor:
        return projected if self.activation is None else projected.tanh()

    @override
    def left(self, u: Tensor) -> Terms:
        bias = self.out.bias[:, None].expand(*u.shape[:-1], -1, -1)  # (..., F, 1)
        return self.project_left(u).unsqueeze(-2) * self.out.weight, bias  # (..., F, R)

    @override
    def right(self, v: Tensor) -> Terms:
        return self.project_right(v), None

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return self.out(self.project_left(u) * self.project_right(v))  # type: ignore[no-any-return]

    @property
    @override
    def fast_path(self) -> bool:
        return super().fast_path and is_linear(self.out)  # an adapter in its place has its own forward

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, activation={self.activation!r}, tied={self.tied}"


@register_fusion("mfb")
class MFB(_Projections):
    r"""Sum groups of R products of projected sides: `sum-pool_R((Au + a) ∘ (Bv + b))`.

    Multi-modal factorized bilinear pooling: each of the F features is a separate bilinear form of rank R. Symmetric
    iff `tied=True`. Values unbounded. With the biases, a linear layer on it can always tell same from different for
    some parameters. `F · R · (D + D2 + 2)` parameters, fewer when tied.

    The paper applies a signed square root and L2 normalization to it: `PowerNormalized(MFB(...))`. The head takes the
    place of the paper's final classifier.

    Args:
        out_features: Number F of pooled features.
        rank: Number R of products in each group, at least 1; 5 in the paper.
        tied: If True, project both sides by one matrix, so swapping the inputs changes nothing. Needs D2 = D.

    References:
        Yu, Yu, Fan and Tao, *Multi-modal Factorized Bilinear Pooling with Co-attention Learning for Visual
        Question Answering*, ICCV 2017, arXiv:1708.01471.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.PowerNormalized(pf.fusions.MFB(64, 8, in2_features=32))
        >>> fusion(torch.randn(5, 64), torch.randn(5, 32)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int = 16,
        *,
        in2_features: int | None = None,
        rank: int = 5,
        tied: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        rank = check_int("MFB", "rank", rank)
        out_features = check_int("MFB", "out_features", out_features)
        super().__init__(in_features, in2_features, out_features * rank, tied=tied, device=device, dtype=dtype)
        self.out_features = out_features
        self.rank = rank
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights so that unit variance gives unit variance. Set the biases to 0."""
        self.reset_projections(variance=self.rank**-0.5)

    @override
    def left(self, u: Tensor) -> Terms:
        return (self._groups(self.project_left(u)),)  # (..., F, R)

    @override
    def right(self, v: Tensor) -> Terms:
        return (self._groups(self.project_right(v)),)

    def _groups(self, projected: Tensor) -> Tensor:
        return projected.reshape(*projected.shape[:-1], self.out_features, self.rank)

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, tied={self.tied}"
