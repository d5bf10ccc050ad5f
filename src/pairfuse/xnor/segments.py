"""The closest points of two segments."""

import torch
from torch import Tensor


def closest_points(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
    """Return s and t, `(...)`, of the closest points p1 + s (p2 − p1) and q1 + t (q2 − q1), all `(..., F)`."""
    p, q = p2 - p1, q2 - q1
    pp, qq = _dot(p, p), _dot(q, q)
    across = q - _ratio(_dot(p, q), pp)[..., None] * p  # the part of q perpendicular to p: 0 for parallel segments;
    across = across - _ratio(_dot(p, across), pp)[..., None] * p  # twice, for almost parallel ones
    s = torch.zeros_like(pp)
    t = _ratio(_dot(across, p1 - q1), _dot(across, across)).clamp(0, 1)
    s = (s - _ratio(_dot(p, between(p1, p2, q1, q2, s, t)), pp)).clamp(0, 1)
    t = (t + _ratio(_dot(q, between(p1, p2, q1, q2, s, t)), qq)).clamp(0, 1)  # s may have been clamped
    s = (s - _ratio(_dot(p, between(p1, p2, q1, q2, s, t)), pp)).clamp(0, 1)
    return s, t


def between(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Return the vector from the point t of q1 q2 to the point s of p1 p2."""
    return (p1 - q1) + s[..., None] * (p2 - p1) - t[..., None] * (q2 - q1)  # differences first: an offset cancels


def segment_distance(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """Return the distance between the segments p1 p2 and q1 q2, each `(..., F)` → `(...)`.

    At the minimum the distance does not change with s and t to first order. So they are computed without a graph, and
    the gradient is still exact.
    """
    with torch.no_grad():
        s, t = closest_points(p1, p2, q1, q2)
    distance: Tensor = torch.linalg.vector_norm(between(p1, p2, q1, q2, s, t), dim=-1)
    return distance


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return `numerator / denominator`, or 0 where the denominator is 0: for segments of length 0 or parallel ones."""
    positive = denominator > 0
    return torch.where(positive, numerator / denominator.where(positive, 1.0), 0.0)
