"""The certificate of two embeddings."""

import torch
from torch import Tensor

from pairfuse._checks import check_embeddings, check_finite
from pairfuse.fusions.registry import FusionSpec
from pairfuse.xnor._features import find_fusion, fuse_wide, positive_or_one, require_tied
from pairfuse.xnor.certificate import Certificate, certify
from pairfuse.xnor.segments import between, closest_points


def xnor_certificate(fusion: FusionSpec, a: Tensor, b: Tensor) -> Certificate:
    """Whether a linear head on a fusion can tell same from different on {a, b}, with a proof.

    If it can, the certificate holds the best head: its weight has norm 1, the two logits of a same pair are above 0,
    those of a different pair below 0, and the gap between them is the margin. If it cannot, the certificate holds
    the point that the segments of the same pairs and of the different pairs have in common:
    `(1 − s) f(a, a) + s f(b, b) = (1 − t) f(a, b) + t f(b, a)`, with s in `same[1, 1]` and t in `different[1, 0]`.

    Args:
        fusion: Any fusion with `in_features == in2_features`; or a name, or a list of either, built for the
            embeddings with fresh parameters.
        a: One embedding, `(D,)`.
        b: Another one, `(D,)`. If it equals `a`, the certificate is that of a common point.

    Returns:
        A verified certificate with n = 2; the margin is `xnor_margin(fusion, a, b)`.

    Raises:
        TypeError: `fusion` is no fusion, or the embeddings are not floating-point.
        ValueError: The embeddings are not finite or not of shape `(D,)`, or the two sides differ in width.
        ArithmeticError: The margin is too small for float64 to prove either answer.

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969.

    Examples:
        >>> import torch, pairfuse as pf
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> print(pf.xnor.xnor_certificate("product", a, b))
        separable, margin 0.7071: weight [0.7071, 0.7071], bias -0.3536
        >>> print(pf.xnor.xnor_certificate("concat", a, b))
        not separable: 0.5 f(a, a) + 0.5 f(b, b) = 0.5 f(a, b) + 0.5 f(b, a)
    """
    fusion = find_fusion(fusion, a, b)
    require_tied("xnor_certificate", fusion)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(
            f"xnor_certificate expects one embedding each, of shape (D,), got a of shape {tuple(a.shape)} and b of "
            f"shape {tuple(b.shape)}: take one row, or xnor_margin for many"
        )
    check_embeddings(type(fusion).__name__, a, b, fusion.in_features, fusion.in2_features)
    check_finite("xnor_certificate", a=a, b=b)
    items = torch.stack([a.detach(), b.detach()])
    with torch.no_grad():
        features = fuse_wide(fusion, items[:, None].expand(2, 2, -1), items[None].expand(2, 2, -1)).cpu()  # (2, 2, F)
    check_finite("xnor_certificate", features=features)
    scale = positive_or_one(features.abs().max())
    features = features / scale
    segments = features[0, 0], features[1, 1], features[0, 1], features[1, 0]
    s, t = closest_points(*segments)
    apart = between(*segments, s, t)
    weight = apart / positive_or_one(apart.norm())
    same = torch.diag(torch.stack([1 - s, s]))
    different = torch.diag(torch.stack([1 - t, t])).flip(1)
    certificate = certify(features, torch.eye(2, dtype=torch.bool), weight, same, different)
    return certificate.scaled(scale)
