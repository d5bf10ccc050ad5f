"""Factors: the contribution of each item to the scores of all pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse.fusions.separable import Separable
from pairfuse.scoring.products import products_of_rows


class Factors(NamedTuple):
    """The scores of N × M pairs as `left @ right.mT`, plus one number for each left and each right item.

    `scores[i, j, k] = left[k, i] · right[0, j] + row[i, k] + column[j, k]`. The left side and the row depend on the
    left embeddings only, the right side and the column on the right ones only.

    Attributes:
        left: `(K, N, R)`; it includes the weights of the linear layer.
        right: `(1, M, R)`, without any weight of the linear layer.
        row: `(N, K)`; None stands for 0.
        column: `(M, K)`; None stands for 0.
    """

    left: Tensor
    right: Tensor
    row: Tensor | None = None
    column: Tensor | None = None

    def block(self, rows: slice, columns: slice) -> "Factors":
        """Return the factors of some of the left and some of the right items."""
        return Factors(
            self.left[:, rows],
            self.right[:, columns],
            None if self.row is None else self.row[rows],
            None if self.column is None else self.column[columns],
        )


def factors_of(fusion: Separable, u: Tensor, v: Tensor, weight: Tensor, *, swapped: bool = False) -> Factors:
    """Return the factors of a linear layer `(K, F)` on a fusion of all pairs of `(N, D)` and `(M, D2)`.

    With `swapped`, the fusion takes the other order: `f(v, u)`.
    """
    terms = (fusion.right(u), fusion.left(v)) if swapped else (fusion.left(u), fusion.right(v))
    lefts: list[Tensor] = []
    rights: list[Tensor] = []
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    for a, b in fusion._pair_terms(*terms):
        for x, items in ((a, u.shape[0]), (b, v.shape[0])):
            _check_term(fusion, x, items, len(weight[0]))
        if a is None or b is None:
            alone = rows if b is None else columns
            alone.append(_weigh(b if a is None else a, weight, fusion.summed))
        elif not fusion.summed:
            lefts.append(a * weight[:, None])
            rights.append(b)
        elif b.ndim == 2:  # (M, R), shared by all features
            lefts.append(_mix(a, weight))
            rights.append(b)
        else:  # (M, F, R)
            a = a if a.ndim == 3 else a[:, None].expand(-1, b.shape[1], -1)
            lefts.append((a * weight[:, None, :, None]).flatten(2))
            rights.append(b.flatten(1))
    given = [x for side in terms for x in side if x is not None]
    if fusion.summed and len(weight[0]) > 1 and all(x.ndim == 2 for x in given):
        raise ValueError(
            f"{type(fusion).__name__} has out_features={len(weight[0])}, but all its terms have shape (..., R), which "
            "gives one feature: set self.out_features = 1 in __init__"
        )
    if not lefts:
        lefts, rights = [u.new_empty(len(weight), u.shape[0], 0)], [v.new_empty(v.shape[0], 0)]
    return Factors(_side_by_side(lefts), _side_by_side(rights)[None], _total(rows), _total(columns))


def _check_term(fusion: Separable, x: Tensor | None, items: int, features: int) -> None:
    shapes = [(items, features)] if not fusion.summed else [(items, "R"), (items, features, "R")]
    if x is not None and not any(_has_shape(x, shape) for shape in shapes):
        hint = fusion._hint_at_shape(x, 2) if not fusion.summed and x.shape[:1] == (items,) else ""
        due = " or ".join(str(shape).replace("'", "") for shape in shapes)
        raise ValueError(
            f"the terms of {type(fusion).__name__}.left and .right must have shape {due} for {items} items, "
            f"got {tuple(x.shape)}{hint}"
        )


def _has_shape(x: Tensor, shape: Sequence[int | str]) -> bool:
    return x.ndim == len(shape) and all(size in ("R", n) for n, size in zip(x.shape, shape, strict=True))


def _mix(x: Tensor, weight: Tensor) -> Tensor:
    """Apply the linear layer to the features of terms `(N, F, R)`, or `(N, R)` if all are equal: `(K, N, R)`."""
    if x.ndim == 2:
        return weight.sum(1)[:, None, None] * x
    return torch.einsum("kf,nfr->knr", weight, x) if x.shape[1] > 1 else weight[:, :, None] * x[:, 0]


def _weigh(x: Tensor | None, weight: Tensor, summed: bool) -> Tensor:
    """Apply the linear layer to terms whose other side is 1: `(N, K)`."""
    assert x is not None
    if not summed:
        return x @ weight.mT
    sums = x.sum(-1)  # (N, F), or (N,) if all features are equal
    return sums @ weight.mT if sums.ndim == 2 else sums[:, None] * weight.sum(1)


def join_factors(parts: Sequence[Factors]) -> Factors:
    """Return the factors of the sum of several scores."""
    if len(parts) == 1:
        return parts[0]
    with_products = [part for part in parts if part.left.shape[-1] > 0] or parts[:1]
    return Factors(
        _side_by_side([part.left for part in with_products]),
        _side_by_side([part.right for part in with_products]),
        _total([part.row for part in parts if part.row is not None]),
        _total([part.column for part in parts if part.column is not None]),
    )


def score_pairs(factors: Factors) -> Tensor:
    """Return the scores of all pairs: `(N, M, K)`."""
    left, right, row, column = factors
    terms = [] if row is None else [row[:, None]]
    terms += [] if column is None else [column[None]]
    if left.shape[-1] == 0 and terms:
        return sum(terms[1:], start=terms[0]).expand(left.shape[1], right.shape[1], -1)
    one = len(left) == 1  # else compute (N, M, K) directly: later layers need contiguous outputs
    scores = products_of_rows(left[0], right[0]).unsqueeze(-1) if one else right @ left.permute(1, 2, 0)
    for term in terms:
        scores += term  # in place, since it may be large
    return scores


def inner_products(factors: Factors) -> tuple[Tensor, Tensor]:
    """Return vectors `(N, S)` and `(M, S)` whose inner products are the scores of a single output."""
    left, right, row, column = factors
    lefts, rights = [left[0]], [right[0]]
    if row is not None:
        lefts, rights = [*lefts, row], [*rights, right.new_ones(right.shape[1], 1)]
    if column is not None:
        lefts, rights = [*lefts, left.new_ones(left.shape[1], 1)], [*rights, column]
    return torch.cat(lefts, -1), torch.cat(rights, -1)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)


def _total(parts: Sequence[Tensor]) -> Tensor | None:
    return sum(parts[1:], start=parts[0]) if parts else None
