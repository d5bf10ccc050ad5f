"""For every registered fusion, in plain Python and exact fractions: its values, and when it learns XNOR.

Written from the formulas, without torch and without the code under test. A registered fusion that is missing here
fails `test_laws.py`.
"""

import math
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


@dataclass(frozen=True)
class Oracle:
    """What the tests know about a fusion without asking it."""

    values: Callable[[Any, Vector, Vector], Vector]
    learns_xnor: Callable[[Vector, Vector], bool]  # for a ≠ b, over all of the fusion's parameters
    out_features: Callable[[int], int] = lambda width: width
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])  # every variant is put through the laws
    rational: bool = True  # whether `values` is exact
    trained: Callable[[torch.Tensor, torch.Tensor], pf.Fusion] | None = None  # learns what it can on {a, b}
    special: Callable[[torch.Tensor], torch.Tensor] = lambda a: 2 * a  # if "generic": it fails on {a, special(a)}


def _dot(x: Vector, y: Vector) -> Fraction:
    return sum((p * q for p, q in zip(x, y, strict=True)), Fraction(0))


def _apply(layer: torch.nn.Linear, x: Vector) -> Vector:
    return [_dot(exact(row), x) + exact(bias) for row, bias in zip(layer.weight, layer.bias, strict=True)]


def _tanh(x: Vector) -> Vector:
    return [Fraction(math.tanh(float(value))) for value in x]


def _each(function: Callable[[Fraction, Fraction], Fraction]) -> Callable[[Any, Vector, Vector], Vector]:
    """The same function in every coordinate."""
    return lambda fusion, u, v: [function(x, y) for x, y in zip(u, v, strict=True)]


def _side_by_side(*names: str) -> Callable[[Any, Vector, Vector], Vector]:
    return lambda fusion, u, v: [value for name in names for value in ORACLES[name].values(None, u, v)]


def _bilinear(fusion: Any, u: Vector, v: Vector) -> Vector:
    out = []
    for f in range(fusion.out_features):
        weight = exact(fusion.weight[f])
        if fusion.symmetric:
            weight = [[(weight[i][j] + weight[j][i]) / 2 for j in range(len(u))] for i in range(len(u))]
        form = sum((u[i] * weight[i][j] * v[j] for i in range(len(u)) for j in range(len(v))), Fraction(0))
        out.append(form + (exact(fusion.bias[f]) if fusion.bias is not None else 0))
    return out


def _biaffine(fusion: Any, u: Vector, v: Vector) -> Vector:
    return _bilinear(fusion, [*u, Fraction(1)], [*v, Fraction(1)])


def _projected(fusion: Any, u: Vector, v: Vector) -> Vector:
    left = _apply(fusion.left_projection, u)
    right = _apply(fusion.left_projection if fusion.tied else fusion.right_projection, v)
    if getattr(fusion, "activation", None) == "tanh":
        left, right = _tanh(left), _tanh(right)
    return [x * y for x, y in zip(left, right, strict=True)]


def _mfb(fusion: Any, u: Vector, v: Vector) -> Vector:
    products = _projected(fusion, u, v)
    return [sum(products[f * fusion.rank : (f + 1) * fusion.rank]) for f in range(fusion.out_features)]


def _ntn(fusion: Any, u: Vector, v: Vector) -> Vector:
    forms = [_dot(u, [_dot(row, v) for row in exact(weight)]) for weight in fusion.weight]
    return _tanh([form + linear for form, linear in zip(forms, _apply(fusion.linear, [*u, *v]), strict=True)])


def _quadratic(fusion: Any, u: Vector, v: Vector) -> Vector:
    p, q = exact(fusion.p), exact(fusion.q)
    mixed = [_dot(u, [_dot(row, v) for row in p]), _dot(v, [_dot(row, u) for row in p])]  # P is used symmetrized
    return [(sum(mixed) + sum((_dot(x, [_dot(row, x) for row in q]) for x in (u, v)), Fraction(0))) / (2 * len(u))]


def _cosine(fusion: Any, u: Vector, v: Vector) -> Vector:
    lengths = _dot(u, u) * _dot(v, v)
    return [Fraction(float(_dot(u, v)) / math.sqrt(float(lengths))) if lengths else Fraction(0)]


def _one_common_ratio(a: Vector, b: Vector) -> bool:
    """Whether b_k : a_k is one ratio in [0, ∞] over all coordinates where they differ."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    x0, y0 = pairs[0]
    return all(x * y >= 0 and x * y0 == x0 * y for x, y in pairs)


def _collinear_forward(a: Vector, b: Vector) -> bool:
    """Whether a and b are collinear with a factor of at least 0, or one of them is 0."""
    parallel = all(a[i] * b[j] == a[j] * b[i] for i in range(len(a)) for j in range(len(a)))
    return parallel and _dot(a, b) >= 0


def _one_dominates(a: Vector, b: Vector) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(x >= y for x, y in pairs) or all(x <= y for x, y in pairs)


def _all_products(fusion: type[pf.Fusion], extra: int) -> Callable[[torch.Tensor, torch.Tensor], pf.Fusion]:
    """A bilinear fusion whose features are all u_i v_j: it separates what any bilinear form separates."""

    def build(a: torch.Tensor, b: torch.Tensor) -> pf.Fusion:
        side = len(a) + extra
        built = fusion(len(a), side * side, dtype=torch.float64)
        with torch.no_grad():
            built.weight.copy_(torch.eye(side * side).view(side * side, side, side))
        return built

    return build


def _across(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, float]:
    """A linear form that is +h at a and −h at b: its weight and its bias."""
    return a - b, -((a - b) @ (a + b)).item() / 2


def _one_factor(fusion: type[pf.Fusion]) -> Callable[[torch.Tensor, torch.Tensor], pf.Fusion]:
    """Rank 1: the product of +h or −h from either side is h² for same pairs, −h² for different ones."""

    def build(a: torch.Tensor, b: torch.Tensor) -> pf.Fusion:
        weight, bias = _across(a, b)
        built = fusion(len(a), 1, rank=1, dtype=torch.float64)
        with torch.no_grad():
            for side in (built.left_projection, built.right_projection):
                side.weight.copy_(weight[None])
                side.bias.fill_(bias)
        return built

    return build


def _one_slice(a: torch.Tensor, b: torch.Tensor) -> pf.Fusion:
    """(d · u + c)(d · v + c), multiplied out."""
    d, c = _across(a, b)
    built = pf.fusions.NTN(len(a), 1, dtype=torch.float64)
    with torch.no_grad():
        built.weight.copy_(d[:, None] * d)
        built.linear.weight.copy_(c * torch.cat([d, d]))
        built.linear.bias.fill_(c * c)
    return built


def _always(a: Vector, b: Vector) -> bool:
    return True


def _never(a: Vector, b: Vector) -> bool:
    return False


ORACLES: dict[str, Oracle] = {
    "concat": Oracle(lambda fusion, u, v: [*u, *v], _never, lambda width: 2 * width),
    "sum": Oracle(_each(lambda x, y: x + y), _never),
    "mean": Oracle(_each(lambda x, y: (x + y) / 2), _never),
    "diff": Oracle(_each(lambda x, y: x - y), _never),
    "product": Oracle(_each(lambda x, y: x * y), lambda a, b: not _one_common_ratio(a, b)),
    "abs-diff": Oracle(_each(lambda x, y: x - y if x > y else y - x), _always),
    "squared-diff": Oracle(_each(lambda x, y: x * x - 2 * x * y + y * y), _always),
    "max": Oracle(_each(lambda x, y: x if x > y else y), lambda a, b: not _one_dominates(a, b)),
    "min": Oracle(_each(lambda x, y: y if x > y else x), lambda a, b: not _one_dominates(a, b)),
    "cosine": Oracle(_cosine, lambda a, b: not _collinear_forward(a, b), lambda width: 1, rational=False),
    "bilinear": Oracle(
        _bilinear,
        lambda a, b: not _collinear_forward(a, b),
        lambda width: 1,
        options=[{}, {"symmetric": True}, {"bias": False}, {"out_features": 3}],
        trained=_all_products(pf.fusions.Bilinear, 0),
    ),
    "biaffine": Oracle(
        _biaffine,
        _always,
        lambda width: 1,
        options=[{}, {"symmetric": True}, {"out_features": 3}],
        trained=_all_products(pf.fusions.Biaffine, 1),
    ),
    "quadratic": Oracle(_quadratic, _always, lambda width: 1),
    "low-rank-bilinear": Oracle(
        lambda fusion, u, v: _apply(fusion.out, _projected(fusion, u, v)),
        _always,
        lambda width: 16,
        options=[{}, {"tied": True}, {"activation": None}, {"out_features": 3, "rank": 2}, {"rank": 1, "tied": True}],
        rational=False,
        trained=_one_factor(pf.fusions.LowRankBilinear),
    ),
    "mfb": Oracle(
        _mfb,
        _always,
        lambda width: 16,
        options=[{}, {"tied": True}, {"out_features": 3, "rank": 2}],
        trained=_one_factor(pf.fusions.MFB),
    ),
    "ntn": Oracle(
        _ntn, _always, lambda width: 4, options=[{}, {"out_features": 1}], rational=False, trained=_one_slice
    ),
    "symmetric": Oracle(_side_by_side("product", "abs-diff"), _always, lambda width: 2 * width),
    "infersent": Oracle(_side_by_side("concat", "abs-diff", "product"), _always, lambda width: 4 * width),
    "sbert": Oracle(_side_by_side("concat", "abs-diff"), _always, lambda width: 3 * width),
    "mou": Oracle(_side_by_side("concat", "diff", "product"), _always, lambda width: 4 * width),
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
