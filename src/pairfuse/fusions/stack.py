"""Several fusions side by side."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.fusions.base import Fusion
from pairfuse.fusions.factors import Factors, join_factors
from pairfuse.fusions.facts import Symmetry, Xnor, best_xnor

__all__ = ["Stack"]


class Stack(Fusion):
    r"""Put the features of several fusions side by side: `[f1(u, v); f2(u, v); …]`.

    Symmetric (antisymmetric, additive) iff all its parts are. Its `xnor` is at least the best of its parts', which
    a linear head reaches by ignoring the others. Beside `[u, v]` or `u + v` it is more: they leave the same pairs and
    the different pairs no common point but the middle of both, so that `[u, v, u ∘ v]` can always tell them apart.

    Args:
        parts: At least one fusion, all of the same `in_features` and `in2_features`.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`
        - Output: `(..., F)`, F the sum of the parts' `out_features`

    Raises:
        TypeError: A part is not a `Fusion`.
        ValueError: There is no part, or their widths differ.

    References:
        Tai, Socher and Manning, *Improved Semantic Representations From Tree-Structured Long Short-Term Memory
        Networks*, 2015, arXiv:1503.00075, for `[u ∘ v; |u − v|]`.

    Examples:
        >>> import pairfuse as pf
        >>> stack = pf.fusions.Stack([pf.fusions.Product(64), pf.fusions.AbsDiff(64)])
        >>> stack.out_features, stack.symmetry, stack.xnor
        (128, 'symmetric', 'always')
        >>> pf.make_fusion(["concat", "product"], 64).xnor  # neither of the two alone
        'always'
    """

    two_widths = True  # of the class; an instance can what all its parts can

    def __init__(self, parts: Iterable[Fusion]) -> None:
        if isinstance(parts, (Fusion, str)):
            raise TypeError(f"Stack expects a list of fusions, got {parts!r}: put it into brackets")
        parts = list(parts)
        if not parts:
            raise ValueError("Stack expects at least one fusion, got none")
        for part in parts:
            if not isinstance(part, Fusion):
                raise TypeError(f"Stack expects fusions, got {part!r}; for names call make_fusion([...], in_features)")
        widths = {(part.in_features, part.in2_features) for part in parts}
        if len(widths) > 1:
            raise ValueError(f"Stack expects parts of one (in_features, in2_features), got {sorted(widths)}")
        super().__init__(parts[0].in_features, in2_features=parts[0].in2_features)
        self.out_features = sum(part.out_features for part in parts)
        self.parts = nn.ModuleList(parts)
        self.two_widths = all(part.two_widths for part in parts)

    @property
    def fusions(self) -> list[Fusion]:
        """The parts, in order."""
        parts: list[Any] = list(self.parts)
        return parts

    @property
    def symmetry(self) -> Symmetry:  # type: ignore[override]
        """The symmetry that all parts share, else `"none"`."""
        kinds = {part.symmetry for part in self.fusions}
        return kinds.pop() if len(kinds) == 1 else "none"

    @property
    def additive(self) -> bool:  # type: ignore[override]
        """Whether every part is additive."""
        return all(part.additive for part in self.fusions)

    @property
    def spans_sum(self) -> bool:  # type: ignore[override]
        """Whether some part does."""
        return any(part.spans_sum for part in self.fusions)

    @property
    @override
    def balanced(self) -> bool:
        return all(part.balanced for part in self.fusions)

    @property
    def xnor(self) -> Xnor:  # type: ignore[override]
        """At least this: the best of the parts, beside u + v if some part reads it. "never" is exact."""
        return self.xnor_with_sum if self.spans_sum else self._best([part.xnor for part in self.fusions])

    @property
    def xnor_with_sum(self) -> Xnor:  # type: ignore[override]
        """At least this: the best of the parts beside u + v."""
        return self._best([part.xnor_with_sum or part.xnor for part in self.fusions])

    def _best(self, of_parts: list[Xnor]) -> Xnor:
        """Several that never learn alone may learn together, unless all are balanced."""
        alone = self.balanced or len(of_parts) == 1
        return best_xnor(of_parts if alone else [*of_parts, "generic"])

    @property
    @override
    def fast_path(self) -> bool:
        return all(part.fast_path for part in self.fusions)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([part(u, v) for part in self.fusions], dim=-1)

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        return join_factors([part.checked_factors(u, v, w) for part, w in self.terms(weight)])

    @override
    def centred(self, origin: Tensor) -> Fusion:
        return self._with_modules(parts=nn.ModuleList([part.centred(origin) for part in self.fusions]))

    @override
    def terms(self, weight: Tensor) -> list[tuple[Fusion, Tensor]]:
        weights = torch.split(weight, [part.out_features for part in self.fusions], dim=-1)
        return [term for part, w in zip(self.fusions, weights, strict=True) for term in part.terms(w)]

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        if self.fast_path:
            return super().score_all(u, v, weight)
        first, *others = [part.score_all(u, v, w) for part, w in self.terms(weight)]
        return sum(others, start=first)

    @override
    def numbers_per_pair(self, outputs: int) -> int:
        return sum(part.numbers_per_pair(outputs) for part in self.fusions) + 2 * outputs

    @override
    def numbers_per_row(self) -> int:
        return sum(part.numbers_per_row() for part in self.fusions)

    @override
    def numbers_to_fuse(self) -> int:
        return sum(part.numbers_to_fuse() for part in self.fusions) + self.out_features

    @override
    def all_feature_means(self) -> list[tuple[float, float]]:
        return [feature_means for part in self.fusions for feature_means in part.all_feature_means()]

    @override
    def extra_repr(self) -> str:
        return ""
