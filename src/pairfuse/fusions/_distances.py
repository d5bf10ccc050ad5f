"""Weighted sums of absolute differences for all pairs."""

import torch
from torch import Tensor

from pairfuse.fusions.factors import linear

COORDINATES = 64  # of a distance: several of so many are faster than one of all (measured on a CPU)


def weighted_distances(u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """`Σ_d w_kd |u_id − v_jd|`: `(N, D)`, `(M, D)` and `(K, D)` give `(N, M, K)`.

    For one output city-block distances, of coordinates with weights above 0 and of others below, which need no number
    for every pair and coordinate. Where torch compiles, one kernel that needs none either. Else, for several
    outputs or with gradients (for which the distance's kernel is slow and says nothing of weights that are 0), the
    differences themselves, which cost memory for N · M · D numbers.
    """
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (u, v, weight))
    if torch.compiler.is_compiling() or gradients or len(weight) > 1:
        return linear((u[:, None] - v[None]).abs(), weight)
    wide = torch.promote_types(u.dtype, torch.float32)  # there is no kernel for half precision
    u, v, row = u.to(wide), v.to(wide), weight[0].to(wide)
    scores = u.new_zeros(len(u), len(v))
    for sign, coordinates in ((1, row > 0), (-1, ~(row > 0))):  # 0 and NaN must meet NaN in u and v too
        for where in torch.split(coordinates.nonzero().squeeze(1), COORDINATES):
            size = row[where].abs()
            scores.add_(torch.cdist(u[:, where] * size, v[:, where] * size, p=1.0), alpha=sign)
    return scores[..., None].to(weight.dtype)


def numbers_per_distance(width: int, outputs: int) -> int:
    """About how many numbers the above holds for each pair, without gradients."""
    return 3 if outputs == 1 else 2 * width
