"""The plan for one fusion and head: what is computed once per item, and what once per pair."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_logits
from pairfuse._layers import FEW, apply_linear, is_altered, is_linear
from pairfuse.fusions import Concat, Fusion, Separable, Stack, Symmetrized
from pairfuse.fusions.additive import OneSide
from pairfuse.fusions.base import computes_as, knows_fuse
from pairfuse.heads import split_head
from pairfuse.items.batches import expand_pairs
from pairfuse.scoring.factors import Factors, factors_of, join_factors, score_pairs


class Leaf(NamedTuple):
    """A part of a fusion, with its share of a linear layer.

    Attributes:
        fusion: Neither a stack nor a symmetrized fusion.
        weight: The columns of the layer's weight that read this part, `(K, F)`.
        swapped: If True, the part takes `(v, u)`.
    """

    fusion: Fusion
    weight: Tensor
    swapped: bool = False


def take_apart(fusion: Fusion, weight: Tensor, *, swapped: bool = False) -> list[Leaf]:
    """Write a linear layer on a fusion as a sum of layers on the leaves of its stacks and symmetrized parts."""
    if isinstance(fusion, Stack) and computes_as(fusion, Stack):
        weights = torch.split(weight, [part.out_features for part in fusion.fusions], dim=-1)
        parts = zip(fusion.fusions, weights, strict=True)
        return [leaf for part, w in parts for leaf in take_apart(part, w, swapped=swapped)]
    if isinstance(fusion, Concat) and computes_as(fusion, Concat):  # without the zeros of its terms
        widths = [fusion.in_features, fusion.in2_features]
        sides = zip((True, False), torch.split(weight, widths, dim=-1), strict=True)
        return [Leaf(OneSide(*widths, is_left=is_left), w, swapped) for is_left, w in sides]
    if isinstance(fusion, Symmetrized) and computes_as(fusion, Symmetrized):
        return [leaf for order in (False, True) for leaf in take_apart(fusion.fusion, weight / 2, swapped=order)]
    return [Leaf(fusion, weight, swapped)]


def leaf_factors(leaf: Leaf, u: Tensor, v: Tensor, origin: Tensor | None, weight: Tensor | None = None) -> Factors:
    """Return the factors of a separable leaf, with its weight or another one."""
    assert isinstance(leaf.fusion, Separable)
    u, v = shifted(leaf.fusion, u, v, origin)
    return factors_of(leaf.fusion, u, v, leaf.weight if weight is None else weight, swapped=leaf.swapped)


def shifted(fusion: Fusion, u: Tensor, v: Tensor, origin: Tensor | None) -> tuple[Tensor, Tensor]:
    """Subtract the origin from both sides if this only changes the rounding."""
    invariant = fusion.translation_invariant and knows_fuse(fusion, "translation_invariant")
    return (u - origin, v - origin) if invariant and origin is not None else (u, v)


class Plan(nn.Module):
    """Computes the logits of all pairs of two tiles of embeddings.

    The first linear layer of the head is applied leaf by leaf. Separable leaves are joined into one matrix product, and
    the others score their pairs separately. If the head does not begin with a linear layer, or if a hook or a patched
    method alters the head or the fusion, both are called on every pair.

    Args:
        fusion: The fusion.
        head: The head.
        origin: A point near the embeddings, subtracted from both sides for translation-invariant leaves.
        split: If False, the head is not taken apart.
    """

    def __init__(self, fusion: Fusion, head: nn.Module, origin: Tensor | None, *, split: bool = True) -> None:
        super().__init__()
        parts = split_head(head) if split and not (is_altered(fusion) or is_altered(head)) else None
        self.fusion = fusion
        self.head = head
        self.origin = origin
        self.weight: Tensor | None = None if parts is None else parts.weight
        self.bias: Tensor | None = None if parts is None else parts.bias
        leaves = [] if parts is None else take_apart(fusion, parts.weight)
        self.pair_by_pair = [leaf for leaf in leaves if not leaf.fusion.fast_path]
        separable = [leaf for leaf in leaves if leaf.fusion.fast_path]
        # If a leaf has fewer features than the layer has outputs, score the features first, then apply the layer.
        # Sums need neither: their part of the layer is a number for each row and for each column.
        first = [leaf.fusion.out_features < len(leaf.weight) and not leaf.fusion.additive for leaf in separable]
        self.features_first = [leaf for leaf, is_first in zip(separable, first, strict=True) if is_first]
        self.direct = [leaf for leaf, is_first in zip(separable, first, strict=True) if not is_first]
        layers = [] if parts is None else parts.rest
        self.last: nn.Linear | None = None
        if layers and is_linear(layers[-1]) and layers[-1].out_features <= FEW:
            self.last = layers[-1]
        self.rest = nn.Sequential(*(layers if self.last is None else layers[:-1]))

    @property
    def has_layers(self) -> bool:
        """True if anything comes after the first linear layer."""
        return len(self.rest) > 0 or self.last is not None

    @property
    def is_one_kernel(self) -> bool:
        """True if torch.compile makes one kernel of a tile that stores only the outputs of each pair."""
        if self.weight is None or self.pair_by_pair or self.features_first or _widths(self.rest):
            return False
        return not self.has_layers or (self.last is not None and all(leaf.fusion.additive for leaf in self.direct))

    @property
    def outputs(self) -> int:
        """The number of logits of a pair, as declared by the layers."""
        return [self.fusion.out_features, *_widths(self.head)][-1]

    def factors(self, u: Tensor, v: Tensor) -> list[Factors]:
        """Return the factors of all direct leaves and the bias together, then of each features-first leaf."""
        parts = [leaf_factors(leaf, u, v, self.origin) for leaf in self.direct]
        if parts and self.bias is not None:
            nothing = u.new_empty(len(self.bias), u.shape[0], 0), v.new_empty(1, v.shape[0], 0)
            parts.append(Factors(*nothing, self.bias.expand(u.shape[0], -1)))
        ones = [torch.eye(leaf.fusion.out_features).to(u) for leaf in self.features_first]
        first = [
            leaf_factors(leaf, u, v, self.origin, one) for leaf, one in zip(self.features_first, ones, strict=True)
        ]
        return [join_factors(parts), *first] if parts else first

    @override
    def forward(self, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor:
        """Return the logits of all pairs of `(n, D)` and `(m, D2)`, given their factors: `(n, m, K)`."""
        if self.weight is None:
            return self._table(self.head(self.fusion(*expand_pairs(u, v)).flatten(0, 1)), u.shape[0], v.shape[0])
        scores = [self._score_leaf(leaf, u, v) for leaf in self.pair_by_pair]
        if self.direct:
            scores.append(score_pairs(factors[0]))
        elif self.bias is not None:
            scores.append(self.bias.expand(u.shape[0], v.shape[0], -1))
        for part, leaf in zip(factors[len(factors) - len(self.features_first) :], self.features_first, strict=True):
            scores.append(apply_linear(score_pairs(part), leaf.weight))
        hidden = sum(scores[1:], start=scores[0])  # (n, m, H)
        if not self.has_layers:
            return hidden
        rows = self.rest(hidden.flatten(0, 1))  # (n · m, ...)
        if self.last is not None:
            bias: Any = 0 if self.last.bias is None else self.last.bias
            rows = apply_linear(rows, self.last.weight) + bias
        return self._table(rows, u.shape[0], v.shape[0])

    def _score_leaf(self, leaf: Leaf, u: Tensor, v: Tensor) -> Tensor:
        """Apply the linear layer to a leaf on every pair, by its own kernel if it has one."""
        fusion, weight, swapped = leaf
        u, v = shifted(fusion, u, v, self.origin)
        own = fusion.score_all if knows_fuse(fusion, "score_all") else None
        left, right = (v, u) if swapped else (u, v)
        scores = Fusion.score_all(fusion, left, right, weight) if own is None else own(left, right, weight)
        return scores.transpose(0, 1) if swapped else scores

    def _table(self, logits: Tensor, rows: int, columns: int) -> Tensor:
        """Return the logits `(n · m, K)` of a head, or `(n · m,)`, as `(n, m, K)`."""
        check_logits(logits, rows * columns)
        return logits.reshape(rows, columns, 1 if logits.ndim == 1 else logits.shape[1])


def _widths(module: nn.Module) -> list[int]:
    return [layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)]
