"""The features of a separable fusion as products of columns: one column of each side, whose moments give all pairs."""

import copy
from typing import Literal

import torch
from torch import Tensor

from pairfuse.fusions import Fusion, Separable
from pairfuse.scoring.plan import Leaf, shifted, take_apart

Terms = list[Tensor | None]
Places = list[Tensor]  # for each term the column of every product
Side = Literal["left", "right"]


class TermPlan:
    """A fusion as `f = mix · (a ∘ b)`: a linear map of products of a left and a right column.

    A stack is taken apart into its leaves. What comes after the products, such as the sum of a cosine, is in `mix`, so
    it is applied once, to the moments. If a term has a constant side, both sides end with a column of ones.

    Args:
        fusion: The fusion. A copy in float64 and in eval mode is used.
        origin: A point `(D,)` near the embeddings, subtracted from both sides for translation-invariant leaves.

    Attributes:
        fusion: The copy.
        left_places: The left column of each product `(K,)`.
        right_places: The right column of each product `(K,)`.
        mix: `(F, K)`.
        twins: True if both sides have the same columns, as for a product. Then one Gram matrix serves both.

    Raises:
        ValueError: A part of the fusion is not separable.
    """

    def __init__(self, fusion: Fusion, origin: Tensor | None = None) -> None:
        self.fusion = copy.deepcopy(fusion).double().eval().requires_grad_(False)
        self.origin = origin
        like: Tensor | None = next(iter([*self.fusion.parameters(), *self.fusion.buffers()]), origin)
        zeros = [torch.zeros(1, width, dtype=torch.float64) for width in (fusion.in_features, fusion.in2_features)]
        u, v = (x if like is None else x.to(like.device) for x in zeros)
        one = torch.eye(fusion.out_features, dtype=torch.float64, device=u.device)
        self._leaves = take_apart(self.fusion, one)
        for leaf in self._leaves:
            if not (isinstance(leaf.fusion, Separable) and leaf.fusion.fast_path):
                raise ValueError(
                    f"pair_moments expects a separable fusion, got {type(leaf.fusion).__name__}, whose features are "
                    "not sums of products: solve_head solves it on drawn pairs instead"
                )
        self.fusion(u, v)  # raises if its terms do not fit together
        lefts, rights = self._terms(u, "left"), self._terms(v, "right")
        places = [_places(terms) for terms in (lefts, rights)]
        owners = [leaf for leaf in self._leaves for _ in self._side_terms(leaf, u, "left")]  # the leaf of each term
        products = [
            _products(leaf.fusion, a if a is not None else b, *columns)
            for leaf, a, b, *columns in zip(owners, lefts, rights, *places, strict=True)
        ]
        self.left_places, self.right_places = (torch.cat([x[side] for x in products]) for side in (0, 1))
        mixes = [leaf.weight[:, feature] for leaf, (_, _, feature) in zip(owners, products, strict=True)]
        self.mix = torch.cat(mixes, 1)
        self._has_ones = any(x is None for x in (*lefts, *rights))
        self._widths = {"left": self.columns(u, "left").shape[1], "right": self.columns(v, "right").shape[1]}
        self.twins = (
            u.shape == v.shape
            and torch.equal(self.left_places, self.right_places)
            and _are_twins(self._terms(u, "left"), self._terms(u, "right"))
        )

    @property
    def features(self) -> int:
        """Number of features F."""
        return len(self.mix)

    def width(self, side: Side) -> int:
        """Number of columns of a side."""
        return self._widths[side]

    def columns(self, x: Tensor, side: Side) -> Tensor:
        """Return the columns of items `(n, D)` in float64, the last one of ones if it is needed: `(n, K)`."""
        parts = [t.flatten(1) for t in _distinct(self._terms(x, side))]
        if self._has_ones:
            parts.append(x.new_ones(len(x), 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def gram(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of the features' products over all pairs `(F, F)` from the Gram matrices of the columns."""
        products = _take(left, self.left_places) * _take(right, self.right_places)
        return self.mix @ products @ self.mix.mT

    def sums(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of the features over all pairs `(F,)` from the sums of the columns."""
        return self.mix @ (left[self.left_places] * right[self.right_places])

    def _terms(self, x: Tensor, side: Side) -> Terms:
        """Return the terms of one side of all leaves."""
        terms: Terms = []
        for leaf in self._leaves:
            x_leaf = shifted(leaf.fusion, x, x, self.origin)[0]
            terms += self._side_terms(leaf, x_leaf, side)
        return terms

    @staticmethod
    def _side_terms(leaf: Leaf, x: Tensor, side: Side) -> Terms:
        fusion = leaf.fusion
        assert isinstance(fusion, Separable)
        return list(fusion.left(x) if (side == "left") != leaf.swapped else fusion.right(x))


def _distinct(terms: Terms) -> list[Tensor]:
    """Return the terms that are not None, each tensor once."""
    distinct: list[Tensor] = []
    for term in terms:
        if term is not None and not any(term is other for other in distinct):
            distinct.append(term)
    return distinct


def _are_twins(left: Terms, right: Terms) -> bool:
    ours, others = _distinct(left), _distinct(right)
    return len(ours) == len(others) and all(a is b for a, b in zip(ours, others, strict=True))


def _places(terms: Terms) -> Places:
    """Return the columns of each term: of its features `(F,)`, `(R,)` or `(F, R)`; the column of ones for None."""
    distinct = _distinct(terms)
    widths = [x[0].numel() for x in distinct]
    starts = torch.tensor([0, *widths]).cumsum(0).tolist()
    found = []
    for term in terms:
        if term is None:
            found.append(torch.tensor(starts[-1]))
            continue
        i = next(i for i, other in enumerate(distinct) if other is term)
        found.append(torch.arange(starts[i], starts[i + 1]).view(term.shape[1:]))
    return found


def _products(fusion: Fusion, term: Tensor | None, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each product of a pair of terms, one of which is given, its two columns and its feature."""
    assert isinstance(fusion, Separable)
    assert term is not None
    features = torch.arange(fusion.out_features)
    if not fusion.summed:
        return left.expand(len(features)), right.expand(len(features)), features
    shape = len(features), term.shape[-1]
    return left.expand(shape).flatten(), right.expand(shape).flatten(), features[:, None].expand(shape).flatten()


def _take(gram: Tensor, places: Tensor) -> Tensor:
    """Return the rows and columns at some places."""
    at = places.to(gram.device)
    return gram.index_select(0, at).index_select(1, at)
