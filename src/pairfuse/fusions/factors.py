"""Factors: what a linear layer says of all pairs, taken apart into what is known of each item by itself."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse._products import products_of_rows

SMALL = 4  # a compiled kernel computes up to this many outputs as sums, without an array of the features


class Factors(NamedTuple):
    """The scores of N × M pairs as `left @ right.mT`, plus a number for each left and for each right item.

    `scores[i, j, k] = left[k, i] · right[k, j] + row[i, k] + column[j, k]`. The left side and the row may depend on the
    left embeddings only, the right side and the column on the right ones only.

    Attributes:
        left: `(K, N, R)`.
        right: `(K, M, R)`, or `(1, M, R)` where all outputs share it.
        row: `(N, K)`; None stands for 0.
        column: `(M, K)`; None stands for 0.

    Examples:
        >>> import torch, pairfuse as pf
        >>> u, v, weight = torch.randn(3, 8), torch.randn(5, 8), torch.randn(1, 8)
        >>> left, right, row, column = pf.make_fusion("product", 8).factors(u, v, weight)
        >>> left.shape, right.shape, row, column
        (torch.Size([1, 3, 8]), torch.Size([1, 5, 8]), None, None)
    """

    left: Tensor
    right: Tensor
    row: Tensor | None = None
    column: Tensor | None = None

    def block(self, rows: slice, columns: slice) -> "Factors":
        """The factors of some of the left and some of the right items."""
        return Factors(
            self.left[:, rows],
            self.right[:, columns],
            None if self.row is None else self.row[rows],
            None if self.column is None else self.column[columns],
        )


def factors_of_sums(row: Tensor, column: Tensor) -> Factors:
    """Factors of the scores `row[i] + column[j]`, from `(N, K)` and `(M, K)`."""
    left, right = row.new_empty(row.shape[1], row.shape[0], 0), column.new_empty(1, column.shape[0], 0)
    return Factors(left, right, row, column)


def join_factors(parts: Sequence[Factors]) -> Factors:
    """Factors of the sum of several scores: the lefts side by side, and the rights."""
    if len(parts) == 1:
        return parts[0]
    parts_with_products = [part for part in parts if part.left.shape[-1] > 0] or parts[:1]
    size = max(len(part.right) for part in parts_with_products)
    return Factors(
        torch.cat([part.left for part in parts_with_products], -1),
        torch.cat([part.right.expand(size, -1, -1) for part in parts_with_products], -1),
        _sum([part.row for part in parts]),
        _sum([part.column for part in parts]),
    )


def score_pairs(factors: Factors) -> Tensor:
    """The scores of all pairs: `(N, M, K)`."""
    left, right, row, column = factors
    terms = [] if row is None else [row[:, None]]
    terms += [] if column is None else [column[None]]
    if left.shape[-1] == 0 and terms:
        return sum(terms[1:], start=terms[0]).expand(left.shape[1], right.shape[1], -1)
    if len(left) == 1:
        scores = products_of_rows(left[0], right[0])[..., None]
    elif len(right) == 1:
        scores = right @ left.permute(1, 2, 0)  # (N, M, K) at once: outputs side by side, as layers want them
    else:
        scores = torch.einsum("knr,kmr->nmk", left, right)
    for term in terms:
        scores += term  # in place: it may fill the memory
    return scores


def inner_products(factors: Factors) -> tuple[Tensor, Tensor]:
    """Vectors `(N, S)` and `(M, S)` whose inner products are the scores of a single output."""
    left, right, row, column = factors
    lefts, rights = [left[0]], [right[0]]
    if row is not None:
        lefts, rights = [*lefts, row], [*rights, right.new_ones(right.shape[1], 1)]
    if column is not None:
        lefts, rights = [*lefts, left.new_ones(left.shape[1], 1)], [*rights, column]
    return torch.cat(lefts, -1), torch.cat(rights, -1)


def linear(features: Tensor, weight: Tensor) -> Tensor:
    """A linear layer without bias: `(..., F)` and `(K, F)` give `(..., K)`.

    While torch compiles, and for few outputs, written as sums: these it fuses with what makes the features.
    """
    if torch.compiler.is_compiling() and len(weight) <= SMALL:
        return torch.stack([(features * row).sum(-1) for row in weight], -1)
    return features @ weight.mT


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return sum(present[1:], start=present[0]) if present else None
