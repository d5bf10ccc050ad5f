"""Exact separability: can one linear layer on a fusion tell same from different?"""

import torch
from torch import Tensor
from torch.func import functional_call

from pairfuse.fusions import Fusion


def xnor_margin(fusion: Fusion, a: Tensor, b: Tensor) -> Tensor:
    """How far apart a fusion holds the same pairs and the different pairs of two embeddings.

    The distance between the segment from `f(a, a)` to `f(b, b)` and the segment from `f(a, b)` to `f(b, a)`. Two
    pairs of points can be separated by a linear layer with bias iff their convex hulls, here these segments, do
    not meet. So the margin is 0.0 **iff no linear head can tell same from different on {a, b}** with the fusion's
    present parameters; where it is positive, the best linear head separates the pairs by just this distance.

    Computed in float64, whatever the inputs, and rounded to 0.0 below a few units of the last place of the
    largest feature: that is as near as the fused points themselves are known.

    Args:
        fusion: Any fusion with `in_features == in2_features`.
        a: Embeddings of shape `(..., D)`.
        b: Embeddings of the same shape. Where `a` equals `b`, there is nothing to tell apart: the margin is 0.0.

    Returns:
        Margins of shape `(...)` in [0, ∞), of a's dtype; differentiable in `a`, `b` and the fusion's parameters.

    Raises:
        ValueError: The two sides differ in width, or `a` and `b` do not fit the fusion.

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969. Ericson, *Real-Time Collision Detection*, Morgan
        Kaufmann, 2005, section 5.1.9, for the closest points of two segments.

    Examples:
        >>> import torch, pairfuse as pf
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> pf.xnor_margin(pf.make_fusion("concat", 2), a, b)
        tensor(0.)
        >>> pf.xnor_margin(pf.make_fusion("product", 2), a, b)
        tensor(0.7071)
        >>> pf.xnor_margin(pf.make_fusion("abs-diff", 2), a, b)
        tensor(1.4142)
    """
    if fusion.in_features != fusion.in2_features:
        raise ValueError(
            f"xnor_margin compares embeddings of one encoder, but {type(fusion).__name__} has "
            f"in_features={fusion.in_features} and in2_features={fusion.in2_features}"
        )
    same_a, same_b = _fuse_wide(fusion, a, a), _fuse_wide(fusion, b, b)
    different_ab, different_ba = _fuse_wide(fusion, a, b), _fuse_wide(fusion, b, a)
    margin = _segment_distance(same_a, same_b, different_ab, different_ba)
    features = torch.stack([same_a, same_b, different_ab, different_ba]).detach().abs()
    resolution = 16 * torch.finfo(margin.dtype).eps * features.amax(dim=(0, -1))
    return torch.where(margin > resolution, margin, margin * 0).to(a.dtype)


def _fuse_wide(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Fuse in float64 with the fusion's own parameters, through which gradients still flow."""
    state = {name: t.double() if t.is_floating_point() else t for name, t in _state(fusion)}
    fused: Tensor = functional_call(fusion, state, (u.double(), v.double()))
    return fused


def _state(fusion: Fusion) -> list[tuple[str, Tensor]]:
    return [*fusion.named_parameters(), *fusion.named_buffers()]


def _segment_distance(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """Distance between the segments p1 p2 and q1 q2, each `(..., F)` → `(...)`.

    The closest points minimise over two clamped parameters, s and t. At the minimum the distance does not change
    with them to first order, so they are found without a graph and the gradient is exact all the same.
    """
    with torch.no_grad():
        p, q, r = p2 - p1, q2 - q1, p1 - q1
        pp, qq, pq = _dot(p, p), _dot(q, q), _dot(p, q)
        pr, qr = _dot(p, r), _dot(q, r)
        s = _ratio(pq * qr - pr * qq, pp * qq - pq * pq)  # 0 where the segments are parallel
        t = _ratio(pq * s + qr, qq)
        s = _ratio(pq * t - pr, pp)  # once more: t may have been clamped
    on_p = p1 + s[..., None] * (p2 - p1)
    on_q = q1 + t[..., None] * (q2 - q1)
    distance: Tensor = torch.linalg.vector_norm(on_p - on_q, dim=-1)
    return distance


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator` clamped to [0, 1]; 0 where the denominator vanishes."""
    positive = denominator > 0
    return torch.where(positive, numerator / denominator.where(positive, 1.0), 0.0).clamp(0, 1)
