"""The bilinear form: every coordinate of one side meets every coordinate of the other."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int
from pairfuse.fusions.base import Fusion, Symmetry
from pairfuse.fusions.registry import register_fusion


@register_fusion("bilinear")
class Bilinear(Fusion):
    r"""One learned bilinear form for each output feature: `uᵀ W_f v + b_f`.

    Symmetric iff every W_f is: `symmetric=True` uses ½(W_f + W_fᵀ). Values unbounded. A linear layer on it can
    tell same from different for some W, unless the two embeddings are collinear with a factor ≥ 0 or one of them
    is 0. `F · (D · D2 + 1)` parameters.

    The weight is drawn from N(0, 1 / (D · D2)), so that embeddings of unit variance give features of unit
    variance; the default of `torch.nn.Bilinear` gives a standard deviation of about √(D / 3). Without a hidden
    layer after it, one feature is as expressive as many: any linear head on F forms is again one form.

    Args:
        in_features: Width D of `u`.
        out_features: Number F of bilinear forms.
        in2_features: Width D2 of `v`; D by default.
        symmetric: Use ½(W_f + W_fᵀ), so that swapping the inputs changes nothing.
        bias: Learn an additive bias for each form.
        device: Where the parameters are created.
        dtype: The parameters' type.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`
        - Output: `(..., F)`
        - weight: `(F, D, D2)`
        - bias: `(F,)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: `symmetric=True` with two different widths, or embeddings of other widths or leading dimensions.

    References:
        Nickel, Tresp and Kriegel, *A Three-Way Model for Collective Learning on Multi-Relational Data*
        (RESCAL), ICML 2011.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.Bilinear(64, 16, in2_features=32)
        >>> fusion(torch.randn(8, 64), torch.randn(8, 32)).shape
        torch.Size([8, 16])
    """

    symmetry: Symmetry = "none"  # of the class; an instance with symmetric=True says otherwise
    additive, xnor = False, "generic"
    two_widths = True

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
        out_features = check_int("Bilinear", "out_features", out_features)
        if symmetric and self.in2_features != self.in_features:
            raise ValueError(
                f"Bilinear expects one width with symmetric=True, "
                f"got in_features={self.in_features} and in2_features={self.in2_features}"
            )
        self.out_features = out_features
        self.symmetric = symmetric
        self.symmetry = "symmetric" if symmetric else "none"
        shape = (out_features, self.in_features, self.in2_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 1 / (D · D2)), mirrored where it is symmetric; set the bias to 0."""
        nn.init.normal_(self.weight, std=(self.in_features * self.in2_features) ** -0.5)
        if self.symmetric:
            with torch.no_grad():  # mirrored, not averaged: averaging would halve the variance
                self.weight.copy_(self.weight.triu() + self.weight.triu(1).mT)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        weight = (self.weight + self.weight.mT) / 2 if self.symmetric else self.weight
        projected = torch.einsum("...d,fde->...fe", u, weight)  # (..., F, D2)
        fused = torch.einsum("...fe,...e->...f", projected, v)  # (..., F)
        return fused if self.bias is None else fused + self.bias

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, symmetric={self.symmetric}, bias={self.bias is not None}"
