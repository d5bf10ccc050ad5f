"""Several fusions side by side, and the door through which every fusion argument passes."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.fusions.base import Fusion, Symmetry, Xnor
from pairfuse.fusions.registry import make_fusion

FusionSpec: TypeAlias = str | Fusion | Sequence["FusionSpec"]


class Stack(Fusion):
    r"""Put the features of several fusions side by side: `[f1(u, v); f2(u, v); …]`.

    Symmetric (antisymmetric, additive) iff all its parts are. Its `xnor` is the best of its parts',
    which a linear head reaches by ignoring the others; together the parts may do better than that.

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
    """

    two_widths = True

    def __init__(self, parts: Iterable[Fusion]) -> None:
        parts = list(parts)
        if not parts:
            raise ValueError("Stack expects at least one fusion, got none")
        for part in parts:
            if not isinstance(part, Fusion):
                raise TypeError(f"Stack expects fusions, got {part!r}; names go to SiameseComparator")
        widths = {(part.in_features, part.in2_features) for part in parts}
        if len(widths) > 1:
            raise ValueError(f"Stack expects parts of one (in_features, in2_features), got {sorted(widths)}")
        super().__init__(parts[0].in_features, in2_features=parts[0].in2_features)
        self.out_features = sum(part.out_features for part in parts)
        self.parts = nn.ModuleList(parts)

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
    def xnor(self) -> Xnor:  # type: ignore[override]
        """At least this: the best of the parts."""
        order: tuple[Xnor, ...] = ("never", "generic", "always")
        return max((part.xnor for part in self.fusions), key=order.index)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([part(u, v) for part in self.fusions], dim=-1)

    @override
    def contrasts(self) -> list[tuple[float, float]]:
        return [contrast for part in self.fusions for contrast in part.contrasts()]

    @override
    def extra_repr(self) -> str:
        return ""


def as_fusion(spec: FusionSpec, in_features: int, in2_features: int, *, like: Tensor | None = None) -> Fusion:
    """The fusion that a name, a fusion, or a list of either stands for; a list becomes a `Stack`.

    What is built from a name gets the device and dtype of `like`; a fusion that is given stays as it is.
    """
    if isinstance(spec, Fusion):
        return spec
    if isinstance(spec, str):
        options = {} if in2_features == in_features else {"in2_features": in2_features}
        fusion = make_fusion(spec, in_features, **options)
        return fusion if like is None else fusion.to(device=like.device, dtype=like.dtype)
    if isinstance(spec, (list, tuple)):
        return Stack([as_fusion(part, in_features, in2_features, like=like) for part in spec])
    advice = f": call it first, as in {spec.__name__}({in_features})" if isinstance(spec, type) else ""
    raise TypeError(f"fusion must be a pairfuse.Fusion, a registered name, or a list of either, got {spec!r}{advice}")
