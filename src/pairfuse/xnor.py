"""Exact separability: can one linear layer on a fusion tell same from different?"""

import torch
from torch import Tensor
from torch.func import functional_call

from pairfuse._checks import check_embeddings
from pairfuse._modes import eval_mode
from pairfuse.fusions import Fusion


def xnor_margin(fusion: Fusion, a: Tensor, b: Tensor) -> Tensor:
    """How far apart a fusion holds the same pairs and the different pairs of two embeddings.

    The distance between the segment from `f(a, a)` to `f(b, b)` and the segment from `f(a, b)` to `f(b, a)`. Two
    pairs of points can be separated by a linear layer with bias iff their convex hulls, here these segments, do
    not meet. So the margin is 0.0 **iff no linear head can tell same from different on {a, b}** with the fusion's
    present parameters; where it is positive, the best linear head separates the pairs by just this distance.

    Computed in eval mode and in float64, whatever the inputs, and rounded to 0.0 below 4e-15 of the largest
    feature: a margin of that size cannot be told from rounding errors.

    Args:
        fusion: Any fusion with `in_features == in2_features`.
        a: Embeddings of shape `(..., D)`.
        b: Embeddings of the same shape. Where `a` equals `b`, there is nothing to tell apart: the margin is 0.0.

    Returns:
        Margins of shape `(...)` in [0, ∞), of a's dtype (in which a tiny one may round to 0); differentiable, once, in
        `a`, `b` and the fusion's parameters.

    Raises:
        TypeError: `fusion` is no `Fusion`, or the embeddings are not floating-point.
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
    if not isinstance(fusion, Fusion):
        raise TypeError(f"xnor_margin expects a pairfuse.Fusion, got {fusion!r}: build it with make_fusion")
    if fusion.in_features != fusion.in2_features:
        raise ValueError(
            f"xnor_margin compares embeddings of one encoder, but {type(fusion).__name__} has "
            f"in_features={fusion.in_features} and in2_features={fusion.in2_features}"
        )
    check_embeddings(type(fusion).__name__, a, b, fusion.in_features, fusion.in2_features)
    with eval_mode(fusion):
        points = torch.stack([_fuse_wide(fusion, u, v) for u, v in ((a, a), (b, b), (a, b), (b, a))])  # (4, ..., F)
    largest = points.detach().abs().amax(dim=(0, -1))
    scale = largest.where(largest > 0, 1.0)
    margin = _segment_distance(*(points / scale[..., None]))
    margin = torch.where(margin > 16 * torch.finfo(margin.dtype).eps, margin, margin * 0)
    return (margin * scale).to(a.dtype)


def _fuse_wide(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Fuse in float64 with the fusion's own parameters, through which gradients still flow."""
    tensors = [*fusion.named_parameters(), *fusion.named_buffers()]
    state = {name: t.double() if t.is_floating_point() else t for name, t in tensors}
    fused: Tensor = functional_call(fusion, state, (u.double(), v.double()))
    return fused


def _segment_distance(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """Distance between the segments p1 p2 and q1 q2, each `(..., F)` → `(...)`.

    The closest points minimise over two clamped parameters, s and t. At the minimum the distance does not change
    with them to first order, so they are found without a graph and the gradient is exact all the same.
    """
    with torch.no_grad():
        p, q = p2 - p1, q2 - q1
        pp, qq = _dot(p, p), _dot(q, q)
        across = q - _ratio(_dot(p, q), pp)[..., None] * p  # the part of q across p: 0 for parallel segments,
        across = across - _ratio(_dot(p, across), pp)[..., None] * p  # and twice, so that almost parallel ones work
        s = torch.zeros_like(pp)
        t = _ratio(_dot(across, p1 - q1), _dot(across, across)).clamp(0, 1)
        s = (s - _ratio(_dot(p, _between(p1, p2, q1, q2, s, t)), pp)).clamp(0, 1)
        t = (t + _ratio(_dot(q, _between(p1, p2, q1, q2, s, t)), qq)).clamp(0, 1)  # s may have been clamped
        s = (s - _ratio(_dot(p, _between(p1, p2, q1, q2, s, t)), pp)).clamp(0, 1)
    distance: Tensor = torch.linalg.vector_norm(_between(p1, p2, q1, q2, s, t), dim=-1)
    return distance


def _between(p1: Tensor, p2: Tensor, q1: Tensor, q2: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The vector from the point t of q1 q2 to the point s of p1 p2."""
    return (p1 + s[..., None] * (p2 - p1)) - (q1 + t[..., None] * (q2 - q1))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, or 0 where the denominator vanishes: a segment of no length, or parallel ones."""
    positive = denominator > 0
    return torch.where(positive, numerator / denominator.where(positive, 1.0), 0.0)
