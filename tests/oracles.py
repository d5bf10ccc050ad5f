"""For every registered fusion, in plain Python and exact fractions: its values, and when it learns XNOR.

Written from the formulas, without torch and without the code under test. A registered fusion that is missing here
fails `test_laws.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

import pairfuse as pf

Vector = list[Fraction]


def exact(values: torch.Tensor) -> list:
    """A tensor as nested lists of fractions."""
    return [exact(row) for row in values] if values.ndim else Fraction(values.item())


def _bilinear(fusion: pf.fusions.Bilinear, u: Vector, v: Vector) -> Vector:
    out = []
    for f in range(fusion.out_features):
        weight = exact(fusion.weight[f])
        if fusion.symmetric:
            weight = [[(weight[i][j] + weight[j][i]) / 2 for j in range(len(u))] for i in range(len(u))]
        form = sum((u[i] * weight[i][j] * v[j] for i in range(len(u)) for j in range(len(v))), Fraction(0))
        out.append(form + (exact(fusion.bias[f]) if fusion.bias is not None else 0))
    return out


def _one_common_ratio(a: Vector, b: Vector) -> bool:
    """Whether b_k : a_k is one ratio in [0, ∞] over all coordinates where they differ."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    x0, y0 = pairs[0]
    return all(x * y >= 0 and x * y0 == x0 * y for x, y in pairs)


def _collinear_forward(a: Vector, b: Vector) -> bool:
    """Whether a and b are collinear with a factor of at least 0, or one of them is 0."""
    parallel = all(a[i] * b[j] == a[j] * b[i] for i in range(len(a)) for j in range(len(a)))
    return parallel and sum(x * y for x, y in zip(a, b, strict=True)) >= 0


def _all_products(width: int) -> pf.Fusion:
    """A bilinear fusion whose features are all u_i v_j: it separates what any bilinear form separates."""
    fusion = pf.fusions.Bilinear(width, width * width, bias=False, dtype=torch.float64)
    with torch.no_grad():
        fusion.weight.copy_(torch.eye(width * width).view(width * width, width, width))
    return fusion


@dataclass(frozen=True)
class Oracle:
    """What the tests know about a fusion without asking it."""

    values: Callable[[Any, Vector, Vector], Vector]
    learns_xnor: Callable[[Vector, Vector], bool]  # for a ≠ b, over all of the fusion's parameters
    out_features: Callable[[int], int] = lambda width: width
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])  # every variant is put through the laws
    most_expressive: Callable[[int], pf.Fusion] | None = None  # parameters with which it learns all it can


ORACLES: dict[str, Oracle] = {
    "concat": Oracle(
        values=lambda fusion, u, v: [*u, *v],
        learns_xnor=lambda a, b: False,
        out_features=lambda width: 2 * width,
    ),
    "product": Oracle(
        values=lambda fusion, u, v: [x * y for x, y in zip(u, v, strict=True)],
        learns_xnor=lambda a, b: not _one_common_ratio(a, b),
    ),
    "abs-diff": Oracle(
        values=lambda fusion, u, v: [x - y if x > y else y - x for x, y in zip(u, v, strict=True)],
        learns_xnor=lambda a, b: True,
    ),
    "bilinear": Oracle(
        values=_bilinear,
        learns_xnor=lambda a, b: not _collinear_forward(a, b),
        out_features=lambda width: 1,
        options=[{}, {"symmetric": True}, {"bias": False}, {"out_features": 3}],
        most_expressive=_all_products,
    ),
}


def segments_meet(p1: Vector, p2: Vector, q1: Vector, q2: Vector) -> bool:
    """Whether the segments p1 p2 and q1 q2 have a common point, in exact arithmetic.

    p1 + s (p2 − p1) = q1 + t (q2 − q1) is one equation a coordinate in s and t; Gaussian elimination, then the
    bounds 0 ≤ s, t ≤ 1.
    """
    rows = [[x2 - x1, y1 - y2, y1 - x1] for x1, x2, y1, y2 in zip(p1, p2, q1, q2, strict=True)]
    rows = [row for row in rows if any(row)]
    s_row = next((row for row in rows if row[0]), None)
    if s_row is not None:  # eliminate s from the others
        rows = [row for row in rows if row is not s_row]
        rows = [[c - row[0] / s_row[0] * k for c, k in zip(row, s_row, strict=True)] for row in rows]
    t_values = set()
    for _, t_coefficient, right in rows:
        if t_coefficient:
            t_values.add(right / t_coefficient)
        elif right:
            return False
    if len(t_values) > 1:
        return False
    low, high = (min(t_values), max(t_values)) if t_values else (Fraction(0), Fraction(1))
    if low < 0 or high > 1:
        return False
    if s_row is None:
        return True
    # s = (right − k t) / p over the allowed t is an interval: does it touch [0, 1]?
    ends = [(s_row[2] - s_row[1] * t) / s_row[0] for t in (low, high)]
    return max(ends) >= 0 and min(ends) <= 1
