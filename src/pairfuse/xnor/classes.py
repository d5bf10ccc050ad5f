"""Separability of many embeddings of many classes, jointly: a linear program."""

from typing import Any

import torch
from torch import Tensor

from pairfuse._checks import check_embeddings, check_finite, require_package
from pairfuse.fusions.registry import FusionSpec
from pairfuse.xnor._features import find_fusion, fuse_wide, positive_or_one
from pairfuse.xnor.certificate import Certificate, certify


def same_different_margin(
    fusion: FusionSpec, embeddings: Tensor, classes: Tensor, *, right_embeddings: Tensor | None = None
) -> Certificate:
    """Whether one linear head on a fusion can tell same class from different class for all pairs of n embeddings.

    All n² ordered pairs count, those of an item with itself among them. A linear program finds the head with weights
    in [−1, 1] whose lowest logit of a same pair is furthest above its highest logit of a different pair; that gap is
    the margin (the distance of the two convex hulls in the 1-norm). If it is 0, the dual solution mixes the same
    pairs and the different pairs to one point (Farkas). Two embeddings at a time may be separable where all together
    are not: product on (1, 0), (½, ½), (0, 1).

    Needs SciPy: `pip install "pairfuse[certificates]"`. Time grows with n² · F: about a second for n = 50, F = 64.

    Args:
        fusion: Any fusion; or a name, or a list of either, built for the embeddings with fresh parameters.
        embeddings: n embeddings, `(n, D)`.
        classes: The class of each, `(n,)`, of any integer dtype. At least two different ones.
        right_embeddings: With two encoders, what the right one makes of the same n items, `(n, D2)`.

    Returns:
        A verified certificate.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: `fusion` is no fusion, or the embeddings are not floating-point.
        ValueError: Shapes do not fit, the embeddings are not finite, or there is one class only.
        ArithmeticError: The margin is too small for float64 to prove either answer.

    References:
        Farkas, *Theorie der einfachen Ungleichungen*, Journal für die reine und angewandte Mathematik 124, 1902.

    Examples:
        >>> import torch, pairfuse as pf
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> pf.xnor.same_different_margin("abs-diff", embeddings, torch.arange(3)).margin
        1.0
        >>> print(pf.xnor.same_different_margin("product", embeddings, torch.arange(3)))
        not separable: 1 f(b, b) = 0.5 f(a, b) + 0.5 f(b, c)
    """
    linprog = require_package("scipy.optimize", "certificates").linprog
    right = embeddings if right_embeddings is None else right_embeddings
    if embeddings.ndim != 2 or right.ndim != 2:
        raise ValueError(
            f"same_different_margin expects embeddings of shape (n, D), got {tuple(embeddings.shape)}"
            + ("" if right_embeddings is None else f" and right_embeddings of shape {tuple(right.shape)}")
        )
    fusion = find_fusion(fusion, embeddings, right)
    check_embeddings(type(fusion).__name__, embeddings, right, fusion.in_features, fusion.in2_features)
    classes = torch.as_tensor(classes).cpu()
    if classes.shape != embeddings.shape[:1]:
        raise ValueError(
            f"same_different_margin expects one class for each of the {len(embeddings)} embeddings, "
            f"got classes of shape {tuple(classes.shape)}"
        )
    if len(set(classes.tolist())) < 2:
        raise ValueError(f"same_different_margin expects two classes or more, got {sorted(set(classes.tolist()))}")
    check_finite("same_different_margin", embeddings=embeddings, right_embeddings=right)
    n = len(embeddings)
    with torch.no_grad():
        left_items = embeddings[:, None].expand(n, n, -1)
        features = fuse_wide(fusion, left_items, right[None].expand(n, n, -1)).cpu()  # (n, n, F)
    check_finite("same_different_margin", features=features)
    scale = positive_or_one(features.abs().max())
    features, is_same = features / scale, classes[:, None] == classes
    used = torch.ones_like(is_same)
    if right_embeddings is None and fusion.symmetry == "symmetric":
        used = used.triu()  # f(u, v) = f(v, u)
    weight, shares = _solve(linprog, features[used], is_same[used])
    mix = torch.zeros(n, n, dtype=torch.float64)
    mix[used] = shares
    same, different = (mix * mask / positive_or_one((mix * mask).sum()) for mask in (is_same, ~is_same))
    return certify(features, is_same, weight, same, different).scaled(scale)


def _solve(linprog: Any, points: Tensor, is_same: Tensor) -> tuple[Tensor, Tensor]:
    """The weight in [−1, 1] of the widest gap between the points of both kinds, and the dual shares of the points.

    Maximise m over (w, c, m) such that every same point has w · x + c ≥ m and every different one w · x + c ≤ −m.
    """
    sign = torch.where(is_same, -1.0, 1.0).double()[:, None]
    ones = torch.ones_like(sign)
    solution = linprog(
        c=[0.0] * points.shape[1] + [0.0, -1.0],
        A_ub=torch.cat([sign * points, sign, ones], dim=1).numpy(),
        b_ub=[0.0] * len(points),
        bounds=[(-1, 1)] * points.shape[1] + [(None, None)] * 2,
        method="highs",
    )
    if not solution.success:
        raise ArithmeticError(f"the linear program was not solved: {solution.message}")
    weight = torch.as_tensor(solution.x[:-2], dtype=torch.float64)
    shares = torch.as_tensor(-solution.ineqlin.marginals, dtype=torch.float64).clamp(min=0)
    return weight, shares
