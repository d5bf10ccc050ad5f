"""The neural tensor layer: the tanh of a bilinear and a linear form."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int
from pairfuse._layers import apply_linear, is_linear
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.bilinear import bilinear_forms
from pairfuse.fusions.registry import register_fusion

__all__ = ["NTN"]


@register_fusion("ntn")
class NTN(Fusion):
    r"""Squash a bilinear and a linear form of both sides: `tanh(uᵀ W_f v + P_f [u; v] + b_f)`.

    Not symmetric; values in (−1, 1). A linear layer on it can always tell same from different for some parameters.
    `F · (D · D2 + D + D2 + 1)` parameters, drawn so that embeddings of unit variance give unit variance before the
    tanh.

    Args:
        out_features: Number F of features, the slices of the tensor; 4 in the paper.

    Shape:
        - weight: `(F, D, D2)`

    References:
        Socher, Chen, Manning and Ng, *Reasoning With Neural Tensor Networks for Knowledge Base Completion*,
        NIPS 2013.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.NTN(64)(torch.randn(8, 64), torch.randn(8, 64)).shape
        torch.Size([8, 4])
    """

    symmetry, additive, xnor = "none", False, "always"
    two_widths = True

    def __init__(
        self,
        in_features: int,
        out_features: int = 4,
        *,
        in2_features: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = check_int("NTN", "out_features", out_features)
        shape = (self.out_features, self.in_features, self.in2_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        both = self.in_features + self.in2_features
        self.linear = nn.Linear(both, self.out_features, device=device, dtype=dtype)
        # One step changes D · D2 weights of a form. At unit size it would drive the tanh into saturation.
        self._embedding_size = (self.in_features * self.in2_features) ** -0.125
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights so that each form has variance ½. Set the bias to 0."""
        nn.init.normal_(self.weight, std=(2 * self.in_features * self.in2_features) ** -0.5)
        nn.init.normal_(self.linear.weight, std=(2 * self.linear.in_features) ** -0.5)
        nn.init.zeros_(self.linear.bias)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        linear: Tensor = self.linear(torch.cat([u, v], dim=-1))
        return torch.tanh(bilinear_forms(u, self.weight, v) + linear)

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        if not is_linear(self.linear):  # an adapter in its place has its own forward
            return super().score_all(u, v, weight)
        of_u, of_v = torch.split(self.linear.weight, [self.in_features, self.in2_features], dim=-1)
        forms = torch.einsum("nd,fde->nfe", u, self.weight) @ v.mT  # (N, F, M)
        row, column = u @ of_u.mT, v @ of_v.mT + self.linear.bias
        return apply_linear(torch.tanh(forms.transpose(1, 2) + row[:, None] + column), weight)
