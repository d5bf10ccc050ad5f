"""The exact margin by which one linear layer on a fusion can separate the pairs of two embeddings."""

import torch
from torch import Tensor

from pairfuse._checks import check_embeddings
from pairfuse.fusions.registry import FusionSpec
from pairfuse.xnor._features import RESOLUTION, find_fusion, fuse_wide, positive_or_one, power_of_two, require_tied
from pairfuse.xnor.segments import segment_distance


def xnor_margin(fusion: FusionSpec, a: Tensor, b: Tensor, *, relative: bool = False) -> Tensor:
    """Return the distance between the same pairs and the different pairs of two embeddings.

    This is the distance between the segment from `f(a, a)` to `f(b, b)` and the segment from `f(a, b)` to `f(b, a)`. A
    linear layer with bias can separate two pairs of points iff their convex hulls, here these segments, do not meet. So
    the margin is 0.0 **iff no linear head can tell same from different on {a, b}** with the fusion's current
    parameters. If it is positive, the best linear head separates the pairs by exactly this distance.

    It is computed in eval mode and in float64 for any input dtype. Below 4e-15 of the largest feature it is rounded to
    0.0, since a margin of that size may be a rounding error.

    Args:
        fusion: Any fusion with `in_features == in2_features`; or a name, or a list of either, built for the
            embeddings with new parameters.
        a: Embeddings of shape `(..., D)`.
        b: Embeddings of the same shape. Where `a` equals `b` the margin is 0.0.
        relative: If True, divide by twice the largest norm of the four features. The result is in [0, 1] at any scale,
            and predicts the speed of learning: a perceptron makes at most 1 / margin² errors.

    Returns:
        Margins of shape `(...)` in [0, ∞), in the dtype of `a` (where a tiny margin may round to 0). They are
        differentiable once in `a`, `b` and the fusion's parameters, and NaN where an embedding is not finite.

    Raises:
        TypeError: `fusion` is not a fusion, or the embeddings are not floating-point.
        ValueError: The two sides differ in width, or `a` and `b` do not fit the fusion.

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969. Ericson, *Real-Time Collision Detection*, Morgan
        Kaufmann, 2005, section 5.1.9, for the closest points of two segments. Novikoff, *On Convergence Proofs on
        Perceptrons*, 1962, for the number of errors.

    Examples:
        >>> import torch, pairfuse as pf
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> pf.xnor_margin("concat", a, b)
        tensor(0.)
        >>> pf.xnor_margin("product", a, b)
        tensor(0.7071)
        >>> pf.xnor_margin(pf.fusions.AbsDiff(2), a, b)
        tensor(1.4142)
        >>> pf.xnor_margin("product", a + 10, b + 10, relative=True)  # a common offset: slow to learn
        tensor(0.0023)
    """
    fusion = find_fusion("xnor_margin", fusion, a=a, b=b)
    require_tied("xnor_margin", fusion)
    check_embeddings(type(fusion).__name__, a, b, fusion.in_features, fusion.in2_features)
    points = torch.stack([fuse_wide(fusion, u, v) for u, v in ((a, a), (b, b), (a, b), (b, a))])  # (4, ..., F)
    scale = power_of_two(points.detach().abs().amax(dim=(0, -1)))
    points = points / scale[..., None]
    margin = segment_distance(*points)
    size = points.detach().abs().amax(dim=(0, -1))  # in [½, 1), or 0
    margin = torch.where(margin <= RESOLUTION * size, margin * 0, margin)
    if relative:
        largest = torch.linalg.vector_norm(points, dim=-1).amax(0)
        return (margin / positive_or_one(2 * largest)).to(a.dtype)
    return (margin * scale).to(a.dtype)
