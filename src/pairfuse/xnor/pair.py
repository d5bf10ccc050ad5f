"""The certificate of two embeddings, in exact arithmetic."""

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from pairfuse._checks import check_embeddings, check_finite
from pairfuse.fusions.registry import FusionSpec
from pairfuse.items.batches import expand_pairs
from pairfuse.xnor._features import RESOLUTION, find_fusion, fuse_wide, power_of_two, require_tied
from pairfuse.xnor.certificate import Certificate, prove_common_point, prove_separable


def xnor_certificate(fusion: FusionSpec, a: Tensor, b: Tensor) -> Certificate:
    """Prove that a linear head on a fusion can, or cannot, tell same from different on {a, b}.

    If it can, the certificate holds the best head. Its weight has norm 1, the logits of the same pairs are above 0,
    those of the different pairs below 0, and the gap between them is the margin. If it cannot, the certificate holds
    the common point of the segments of the same pairs and of the different pairs:
    `(1 − s) f(a, a) + s f(b, b) = (1 − t) f(a, b) + t f(b, a)`, with s in `same[1, 1]` and t in `different[1, 0]`.

    Args:
        fusion: Any fusion with `in_features == in2_features`; or a name, or a list of either, built for the
            embeddings with new parameters.
        a: One embedding, `(D,)`.
        b: Another embedding, `(D,)`. If it equals `a`, the certificate holds a common point.

    Returns:
        A verified certificate with n = 2. The features are computed in float64, everything else in fractions. The
        margin equals `xnor_margin(fusion, a, b)` up to the rounding of the latter.

    Raises:
        TypeError: `fusion` is not a fusion, or the embeddings are not floating-point.
        ValueError: The embeddings are not finite or not of shape `(D,)`, or the two sides differ in width.
        ArithmeticError: The margin is too small, compared with the features, to prove that a float64 head separates.

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
    fusion = find_fusion("xnor_certificate", fusion, a=a, b=b)
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
        features = fuse_wide(fusion, *expand_pairs(items, items)).cpu()  # (2, 2, F)
    check_finite("xnor_certificate", features=features)
    scale = power_of_two(features.abs().max())
    features = features / scale
    s, t, apart = closest_exactly(*(features[i, j].tolist() for i, j in ((0, 0), (1, 1), (0, 1), (1, 0))))
    if apart.norm() > RESOLUTION * features.abs().max():
        certificate = prove_separable(features, torch.eye(2, dtype=torch.bool), apart / apart.norm())
        certificate = certificate and replace(certificate, margin=apart.norm().item())  # exact, where logits cancel
    else:
        same = torch.tensor([[1 - s, 0.0], [0.0, s]], dtype=torch.float64)
        different = torch.tensor([[0.0, 1 - t], [t, 0.0]], dtype=torch.float64)
        certificate = prove_common_point(features, same, different, tolerance=2 * RESOLUTION)
    if certificate is None:
        raise ArithmeticError(
            f"the same and the different pairs are {(apart.norm() * scale).item():.1e} apart, compared with features "
            f"as large as {scale.item():.1e}: no head in float64 can be proved to separate them. Center the embeddings"
        )
    return certificate.scaled(scale)


def closest_exactly(p1: list[float], p2: list[float], q1: list[float], q2: list[float]) -> tuple[float, float, Tensor]:
    """Return the parameters of the closest points of the segments p1 p2 and q1 q2, and their difference, exactly.

    At the closest points either both parameters are inside [0, 1] and the gradient is 0, or one of them is at an end.
    So the best of five candidates is the answer.
    """
    p1s, p2s, q1s, q2s = ([Fraction(x) for x in point] for point in (p1, p2, q1, q2))
    p, q, r = _minus(p2s, p1s), _minus(q2s, q1s), _minus(p1s, q1s)  # between(s, t) = r + s p − t q
    pp, qq, pq, pr, qr = _dot(p, p), _dot(q, q), _dot(p, q), _dot(p, r), _dot(q, r)
    ends = [Fraction(0), Fraction(1)]
    candidates = [(s_end, _clamp((qr + s_end * pq) / qq) if qq else ends[0]) for s_end in ends]
    candidates += [(_clamp((t_end * pq - pr) / pp) if pp else ends[0], t_end) for t_end in ends]
    determinant = pp * qq - pq * pq
    if determinant:
        s, t = (pq * qr - qq * pr) / determinant, (pp * qr - pq * pr) / determinant
        if 0 <= s <= 1 and 0 <= t <= 1:
            candidates.append((s, t))
    rr = _dot(r, r)

    def squared(pair: tuple[Fraction, Fraction]) -> Fraction:
        s, t = pair
        return rr + s * s * pp + t * t * qq + 2 * s * pr - 2 * t * qr - 2 * s * t * pq

    s, t = min(candidates, key=squared)
    apart = [float(x + s * y - t * z) for x, y, z in zip(r, p, q, strict=True)]
    return float(s), float(t), torch.tensor(apart, dtype=torch.float64)


def _minus(x: list[Fraction], y: list[Fraction]) -> list[Fraction]:
    return [a - b for a, b in zip(x, y, strict=True)]


def _dot(x: list[Fraction], y: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def _clamp(x: Fraction) -> Fraction:
    return min(max(x, Fraction(0)), Fraction(1))
