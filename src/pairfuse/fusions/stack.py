"""Concatenate the features of several fusions."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.fusions.base import Fusion, computes_as
from pairfuse.fusions.facts import Xnor, best_xnor
from pairfuse.fusions.identity import write_identity

__all__ = ["Stack"]


class Stack(Fusion):
    r"""Put the features of several fusions side by side: `[f1(u, v); f2(u, v); …]`.

    Symmetric (antisymmetric, additive) iff all its parts are. Its `xnor` is at least the best of its parts, since a
    linear head can ignore the others. Together with `[u, v]` or `u + v` it can be better: then the segments of the same
    and of the different pairs can only meet at their midpoints. So `[u, v, u ∘ v]` can always tell same from different.
    The facts are computed here: do not replace parts afterwards.

    Args:
        parts: At least one fusion, all with the same `in_features` and `in2_features`. F is the sum of their
            `out_features`.

    Raises:
        TypeError: A part is not a `Fusion`.
        ValueError: There are no parts, or their widths differ.

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
        if "_declare" in self._written:
            self._declare(parts)
        super().__init__(parts[0].in_features, in2_features=parts[0].in2_features)
        self.out_features = sum(part.out_features for part in parts)
        self.parts = nn.ModuleList(parts)

    def _declare(self, parts: list[Fusion]) -> None:
        """Compute every fact from the facts of the parts."""
        kinds = {part.symmetry for part in parts}
        self.symmetry = kinds.pop() if len(kinds) == 1 else "none"
        self.additive = all(part.additive for part in parts)
        self.spans_sum = any(part.spans_sum for part in parts)
        self.two_widths = all(part.two_widths for part in parts)
        self._all_balanced = all(part._balanced for part in parts)
        self.xnor_with_sum = self._best([part.xnor_with_sum or part.xnor for part in parts])
        self.xnor = self.xnor_with_sum if self.spans_sum else self._best([part.xnor for part in parts])

    def _best(self, of_parts: list[Xnor]) -> Xnor:
        """Return the best of the parts. Parts that cannot learn alone may learn together, unless all are balanced."""
        return best_xnor(of_parts if self._all_balanced or len(of_parts) == 1 else [*of_parts, "generic"])

    @property
    def fusions(self) -> list[Fusion]:
        """The parts, in order."""
        parts: list[Any] = list(self.parts)
        return parts

    @property
    @override
    def _balanced(self) -> bool:
        return self._all_balanced if computes_as(self, Stack) else super()._balanced

    @property
    @override
    def fast_path(self) -> bool:
        return computes_as(self, Stack) and all(part.fast_path for part in self.fusions)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([part(u, v) for part in self.fusions], dim=-1)

    @override
    def all_feature_means(self) -> list[tuple[float, float]]:
        if not computes_as(self, Stack):
            return super().all_feature_means()
        return [feature_means for part in self.fusions for feature_means in part.all_feature_means()]

    @override
    def get_extra_state(self) -> Any:
        if not computes_as(self, Stack):
            return super().get_extra_state()
        return write_identity(self, Stack, parts=len(self.fusions))  # a preset is the list of its parts

    @override
    def extra_repr(self) -> str:
        return ""
