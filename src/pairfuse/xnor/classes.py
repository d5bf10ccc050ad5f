"""Joint separability of many embeddings of many classes, by a linear program."""

from typing import Any

import torch
from torch import Tensor

from pairfuse._checks import check_embeddings, check_finite, check_tensor, require_package
from pairfuse.fusions.registry import FusionSpec
from pairfuse.items.batches import expand_pairs
from pairfuse.xnor._features import RESOLUTION, find_fusion, fuse_wide, positive_or_one, power_of_two
from pairfuse.xnor.certificate import Certificate, prove_common_point, prove_separable
from pairfuse.xnor.segments import closest_points, segment_distance


def class_certificate(
    fusion: FusionSpec, embeddings: Tensor, classes: Tensor, *, right_embeddings: Tensor | None = None
) -> Certificate:
    """Certify that one linear head can, or cannot, tell same class from different class for n embeddings.

    All n² ordered pairs count, including each item with itself. A linear program finds the head with weights in
    [−1, 1] that has the largest gap between its lowest logit of a same pair and its highest logit of a different pair.
    This gap is the margin (the distance of the two convex hulls in the 1-norm). If it is 0, the dual solution averages
    the same pairs and the different pairs to one point (Farkas). Every two embeddings may be separable while all
    together are not, such as (1, 0), (½, ½), (0, 1) with product.

    Needs SciPy: `pip install "pairfuse[certificates]"`. It takes a second for n = 100 and F = 128 on one core.

    Args:
        fusion: Any fusion; or a name, or a list of either, built for the embeddings with new parameters.
        embeddings: n embeddings, `(n, D)`.
        classes: The class of each embedding, `(n,)`, integers. At least two different ones.
        right_embeddings: With two encoders, the right embeddings of the same n items, `(n, D2)`.

    Returns:
        A verified certificate. The signs of a head's logits are verified in exact arithmetic, a common point to within
        1e-9 of the largest feature.

    Raises:
        ImportError: SciPy is not installed.
        TypeError: `fusion` is not a fusion, the embeddings are not floating-point, or the classes are not integers.
        ValueError: Shapes do not fit, the embeddings are not finite, or there is only one class.
        ArithmeticError: The margin is too small, compared with the features, to prove either answer.

    References:
        Farkas, *Theorie der einfachen Ungleichungen*, Journal für die reine und angewandte Mathematik 124, 1902.

    Examples:
        >>> import torch, pairfuse as pf
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> pf.xnor.class_certificate("abs-diff", embeddings, torch.arange(3)).margin
        1.0
        >>> print(pf.xnor.class_certificate("product", embeddings, torch.arange(3)))
        not separable: 1 f(b, b) = 0.5 f(a, b) + 0.5 f(b, c)
    """
    linprog = require_package("scipy.optimize", "certificates").linprog
    right = embeddings if right_embeddings is None else right_embeddings
    check_tensor("class_certificate", "embeddings", embeddings)
    check_tensor("class_certificate", "right_embeddings", right)
    if embeddings.ndim != 2 or right.ndim != 2:
        raise ValueError(
            f"class_certificate expects embeddings of shape (n, D), got {tuple(embeddings.shape)}"
            + ("" if right_embeddings is None else f" and right_embeddings of shape {tuple(right.shape)}")
        )
    fusion = find_fusion("class_certificate", fusion, embeddings=embeddings, right_embeddings=right)
    check_embeddings(type(fusion).__name__, embeddings, right, fusion.in_features, fusion.in2_features)
    classes = _class_tensor(classes)
    if classes.shape != embeddings.shape[:1]:
        raise ValueError(
            f"class_certificate expects one class for each of the {len(embeddings)} embeddings, "
            f"got classes of shape {tuple(classes.shape)}"
        )
    if len(set(classes.tolist())) < 2:
        raise ValueError(f"class_certificate expects two classes or more, got {sorted(set(classes.tolist()))}")
    check_finite("class_certificate", embeddings=embeddings, right_embeddings=right)
    with torch.no_grad():
        features = fuse_wide(fusion, *expand_pairs(embeddings, right)).cpu()  # (n, n, F)
    check_finite("class_certificate", features=features)
    scale = power_of_two(features.abs().max())
    features, is_same = features / scale, classes[:, None] == classes
    certificate = _two_at_a_time(features, is_same)
    if certificate is None:
        used = torch.ones_like(is_same)
        if right_embeddings is None and fusion.symmetry == "symmetric":
            used = used.triu()  # f(u, v) = f(v, u)
        certificate = _all_at_once(linprog, features, is_same, used)
    if certificate is None:
        raise ArithmeticError(
            f"the same and the different pairs are too close, compared with features as large as {scale.item():.1e}, "
            "for the linear program to prove either answer: center the embeddings"
        )
    return certificate.scaled(scale)


def _two_at_a_time(features: Tensor, is_same: Tensor) -> Certificate | None:
    """Return the common point of two embeddings of different classes, if any two have one. It proves the whole case."""
    i, j = (~is_same).triu().nonzero().unbind(1)
    segments = features[i, i], features[j, j], features[i, j], features[j, i]
    distance, nearest = segment_distance(*segments).min(0)
    if distance > RESOLUTION * features.abs().max():
        return None
    i, j = i[nearest], j[nearest]
    s, t = closest_points(*(segment[nearest] for segment in segments))
    same, different = torch.zeros(2, *is_same.shape, dtype=torch.float64)
    same[i, i], same[j, j] = 1 - s, s
    different[i, j], different[j, i] = 1 - t, t
    return prove_common_point(features, same, different, tolerance=2 * RESOLUTION)


def _all_at_once(linprog: Any, features: Tensor, is_same: Tensor, used: Tensor) -> Certificate | None:
    """Return the certificate by linear programs over the used pairs.

    The first program uses coordinates in which the pairs are spread evenly, so that the solver's tolerance does not
    hide a narrow gap. A second one finds the widest gap in the features themselves.
    """
    points, kinds = features[used], is_same[used]
    spread, back = _spread_evenly(points)
    weight, shares = _widest_gap(linprog, spread, kinds)
    separable = prove_separable(features, is_same, _of_size_one(back @ weight))
    if separable is not None:
        widest = prove_separable(features, is_same, _of_size_one(_widest_gap(linprog, points, kinds)[0]))
        return separable if widest is None or widest.margin < separable.margin else widest
    mix = torch.zeros_like(is_same, dtype=torch.float64)
    mix[used] = shares
    same, different = (mix * mask / positive_or_one((mix * mask).sum()) for mask in (is_same, ~is_same))
    return prove_common_point(features, same, different, tolerance=1e-9)


def _spread_evenly(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return points `(P, F)` in principal coordinates of unit variance, and the map of their weights to those on F.

    Directions in which the points only differ by rounding are left out.
    """
    left, spread, right = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    root = len(points) ** 0.5
    kept = spread > RESOLUTION * root
    return left[:, kept] * root, right[kept].mT / spread[kept] * root


def _of_size_one(weight: Tensor) -> Tensor:
    """Return a weight scaled so that its largest entry is 1 or −1."""
    return weight / positive_or_one(weight.abs().amax() if weight.numel() else weight.sum())


def _class_tensor(classes: Any) -> Tensor:
    """Return classes as a tensor of integers."""
    try:
        tensor = torch.as_tensor(classes).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"class_certificate expects classes to be integers, got {classes!r}") from error
    if tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"class_certificate expects classes to be integers, got dtype {tensor.dtype}")
    return tensor


def _widest_gap(linprog: Any, points: Tensor, is_same: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight in [−1, 1] with the widest gap between both kinds of points, and the dual shares of the points.

    Maximize m over (w, c, m) such that every same point has w · x + c ≥ m and every different one w · x + c ≤ −m.
    """
    points = points - points.mean(0)  # the bias c absorbs the offset, which would cost precision
    sign = torch.where(is_same, -1.0, 1.0).double()[:, None]
    ones = torch.ones_like(sign)
    solution = linprog(
        c=[0.0] * points.shape[1] + [0.0, -1.0],
        A_ub=torch.cat([sign * points, sign, ones], dim=1).numpy(),
        b_ub=[0.0] * len(points),
        bounds=[(-1, 1)] * points.shape[1] + [(None, None)] * 2,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if not solution.success:
        raise ArithmeticError(f"the linear program was not solved: {solution.message}")
    weight = torch.as_tensor(solution.x[:-2], dtype=torch.float64)
    shares = torch.as_tensor(-solution.ineqlin.marginals, dtype=torch.float64).clamp(min=0)
    return weight, shares
