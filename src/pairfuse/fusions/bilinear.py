"""Bilinear forms: each coordinate of one side is multiplied by each coordinate of the other."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int
from pairfuse.fusions.facts import Symmetry, Xnor
from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["Biaffine", "Bilinear"]


def bilinear_forms(u: Tensor, weight: Tensor, v: Tensor) -> Tensor:
    """Return `uᵀ W_f v` for each f: `(..., D)`, `(F, D, D2)`, `(..., D2)` → `(..., F)`."""
    projected = torch.einsum("...d,fde->...fe", u, weight)  # (..., F, D2)
    return torch.einsum("...fe,...e->...f", projected, v)


def _append_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


@register_fusion("bilinear")
class Bilinear(Separable):
    r"""Learn one bilinear form for each output feature: `uᵀ W_f v + b_f`.

    Symmetric iff every W_f is: `symmetric=True` uses ½(W_f + W_fᵀ). Values unbounded. A linear layer on it can
    tell same from different for some W, unless the two embeddings are collinear with a factor ≥ 0 or one of them
    is 0. `F · (D · D2 + 1)` parameters.

    The weight is drawn from N(0, 1 / (D · D2)), so embeddings of unit variance give features of unit variance. The
    default of `torch.nn.Bilinear` gives a standard deviation of about √(D / 3). Without a hidden layer after it, one
    feature is as expressive as many: any linear head on F forms is again one form.

    Args:
        out_features: Number F of bilinear forms.
        symmetric: If True, use ½(W_f + W_fᵀ), so swapping the inputs changes nothing. Needs D2 = D.
        bias: If True, learn a bias for each form.

    Shape:
        - weight: `(F, D, D2)`
        - bias: `(F,)`

    References:
        Nickel, Tresp and Kriegel, *A Three-Way Model for Collective Learning on Multi-Relational Data*
        (RESCAL), ICML 2011.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.Bilinear(64, 16, in2_features=32)
        >>> fusion(torch.randn(8, 64), torch.randn(8, 32)).shape
        torch.Size([8, 16])
    """

    symmetry: Symmetry = "none"  # of the class; instances with symmetric=True are symmetric
    additive = False
    xnor: Xnor = "generic"
    xnor_with_sum = "always"
    two_widths = True
    summed = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 1,
        *,
        in2_features: int | None = None,
        symmetric: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = check_int(type(self).__name__, "out_features", out_features)
        if symmetric:
            self._require_one_width("symmetric=True")
        self.symmetric = symmetric
        if symmetric:
            self.symmetry = "symmetric"
        self.two_widths = not symmetric
        shape = (self.out_features, *self._sides())
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _sides(self) -> tuple[int, int]:
        """Return the two widths of the weight."""
        return self.in_features, self.in2_features

    def _weight(self) -> Tensor:
        """Return the weight that `fuse` uses."""
        return (self.weight + self.weight.mT) / 2 if self.symmetric else self.weight

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 1 / product of its widths), mirrored if symmetric. Set the bias to 0."""
        nn.init.normal_(self.weight, std=(self.weight.shape[1] * self.weight.shape[2]) ** -0.5)
        if self.symmetric:
            with torch.no_grad():  # mirrored, not averaged: averaging would halve the variance
                self.weight.copy_(self.weight.triu()).add_(self.weight.triu(1).mT)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        fused = bilinear_forms(u, self._weight(), v)
        return fused if self.bias is None else fused + self.bias

    @override
    def left(self, u: Tensor) -> Terms:
        forms = torch.einsum("...d,fde->...fe", u, self._weight())  # (..., F, D2)
        if self.bias is None:
            return (forms,)
        return forms, self.bias[:, None].expand(*u.shape[:-1], -1, -1)  # (..., F, 1)

    @override
    def right(self, v: Tensor) -> Terms:
        return (v,) if self.bias is None else (v, None)

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, symmetric={self.symmetric}, bias={self.bias is not None}"


@register_fusion("biaffine")
class Biaffine(Bilinear):
    r"""Learn bilinear forms of the embeddings with a 1 appended to each: `[u; 1]ᵀ W_f [v; 1]`.

    One weight holds a bilinear form, a linear form of each side and a constant. Symmetric iff every W_f is:
    `symmetric=True` uses ½(W_f + W_fᵀ). Values unbounded. With the linear terms, a linear layer on it can always
    tell same from different for some W. `F · (D + 1) · (D2 + 1)` parameters, drawn so that embeddings of unit
    variance give features of unit variance.

    Args:
        out_features: Number F of forms.
        symmetric: If True, use ½(W_f + W_fᵀ), so swapping the inputs changes nothing. Needs D2 = D.

    Shape:
        - weight: `(F, D + 1, D2 + 1)`

    References:
        Dozat and Manning, *Deep Biaffine Attention for Neural Dependency Parsing*, ICLR 2017, arXiv:1611.01734.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Biaffine(64, 16)(torch.randn(8, 64), torch.randn(8, 64)).shape
        torch.Size([8, 16])
    """

    symmetry, additive, xnor = "none", False, "always"

    def __init__(
        self,
        in_features: int,
        out_features: int = 1,
        *,
        in2_features: int | None = None,
        symmetric: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            in2_features=in2_features,
            symmetric=symmetric,
            bias=False,  # the weight's last entry is the bias
            device=device,
            dtype=dtype,
        )

    @override
    def _sides(self) -> tuple[int, int]:
        return self.in_features + 1, self.in2_features + 1

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return super().fuse(_append_one(u), _append_one(v))

    @override
    def left(self, u: Tensor) -> Terms:
        return super().left(_append_one(u))

    @override
    def right(self, v: Tensor) -> Terms:
        return super().right(_append_one(v))
