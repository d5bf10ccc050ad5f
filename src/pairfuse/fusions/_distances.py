"""Weighted sums of absolute differences for all pairs, without a number for every pair and coordinate."""

import torch
from torch import Tensor


def weighted_distances(u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """`Σ_d w_kd |u_id − v_jd|`: `(N, D)`, `(M, D)` and `(K, D)` give `(K, N, M)`.

    Two city-block distances, of the coordinates with weights above 0 and of those below. With gradients, whose kernel
    there is slow and says nothing of weights that are 0, the differences themselves.
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in (u, v, weight)):
        return torch.einsum("nmd,kd->knm", (u[:, None] - v[None]).abs(), weight)
    wide = torch.promote_types(u.dtype, torch.float32)  # there is no kernel for half precision
    u, v, weight = u.to(wide), v.to(wide), weight.to(wide)
    scores = [_signed(u, v, row, row > 0) - _signed(u, v, -row, row < 0) for row in weight]
    return torch.stack(scores)


def _signed(u: Tensor, v: Tensor, weight: Tensor, where: Tensor) -> Tensor:
    """The part of the coordinates where the weight is above 0."""
    u, v = u[:, where] * weight[where], v[:, where] * weight[where]
    return torch.cdist(u, v, p=1.0)
