"""The symmetric quadratic form of a pair: Mahalanobis distances and the two-covariance model."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["Quadratic"]


@register_fusion("quadratic")
class Quadratic(Separable):
    r"""Learn one symmetric quadratic form of both sides: `(uᵀPv + ½ (uᵀQu + vᵀQv)) / D`.

    Symmetric; width 1; values unbounded. P and Q are symmetrized: ½ (P + Pᵀ) and ½ (Q + Qᵀ). With Q = −P it is
    −1 / 2D of the squared Mahalanobis distance `(u − v)ᵀ P (u − v)`. The log-likelihood ratio of the two-covariance
    model (PLDA) has this form too, with another Q. For suitable parameters a linear layer on it can always tell same
    from different. `2 D²` parameters.

    It starts as the negative squared Euclidean distance divided by D: P = 2 · 1, Q = −P. D is not a part of P and Q
    because a step of an optimizer changes all D² entries, and would overwhelm entries of size 1/D. Single pairs are
    scored from `u − v`, so near-duplicates are exact. All pairs are scored from the expanded form, as for
    `SquaredDiff`.

    Both sides are taken relative to a point `c`, the buffer `center`: u − c and v − c. It is 0 at the start, and a
    distance does not depend on it. `solve_head` sets it to the mean of the embeddings.

    Shape:
        - p, q: `(D, D)`
        - center: `(D,)`

    References:
        Brümmer and de Villiers, *The speaker partitioning problem*, Odyssey 2010, for the two-covariance model.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.Quadratic(2)
        >>> fusion(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))  # −(4 + 36) / 2
        tensor([-20.], grad_fn=<DivBackward0>)
    """

    symmetry, additive, xnor = "symmetric", False, "always"
    feature_means = (0.0, -2.0)
    summed = True
    center: Tensor

    def __init__(
        self,
        in_features: int,
        *,
        in2_features: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = 1
        shape = (self.in_features, self.in_features)
        self.p = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.q = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("center", torch.empty(self.in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the form to the negative squared distance, divided by D."""
        with torch.no_grad():
            self.p.zero_().fill_diagonal_(2)
            self.q.zero_().fill_diagonal_(-2)
            self.center.zero_()

    @override
    def left(self, u: Tensor) -> Terms:
        share, u = 1 / self.in_features, u - self.center
        return u @ _symmetric(self.p) * share, _form(u, self.q).unsqueeze(-1) * (share / 2), None

    @override
    def right(self, v: Tensor) -> Terms:
        v = v - self.center
        return v, None, _form(v, self.q).unsqueeze(-1) / (2 * self.in_features)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        rest = self.p + self.q  # 0 for a distance
        forms = _form(u - self.center, rest) + _form(v - self.center, rest) - _form(u - v, self.p)
        return forms.unsqueeze(-1) / (2 * self.in_features)

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a state from before there was a center as one whose center is 0."""
        if f"{prefix}p" in state_dict:
            state_dict.setdefault(f"{prefix}center", torch.zeros_like(self.center))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _symmetric(weight: Tensor) -> Tensor:
    return (weight + weight.mT) / 2


def _form(x: Tensor, weight: Tensor) -> Tensor:
    """Return `xᵀ W x`: `(..., D)` → `(...)`."""
    return ((x @ weight) * x).sum(-1)
