"""Fusions of the difference, which an offset common to both sides does not change: `f(u + c, v + c) = f(u, v)`."""

import copy
from typing import Self

from torch import Tensor
from typing_extensions import override

from pairfuse.fusions.base import Fusion


class ShiftInvariant(Fusion):
    """Scores all pairs around a point near the embeddings, or a large offset would spoil the rounding."""

    origin: Tensor | None = None

    @override
    def centred(self, origin: Tensor) -> Self:
        twin = copy.copy(self)
        twin.origin = origin
        return twin

    def shift(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides without the offset."""
        return (u, v) if self.origin is None else (u - self.origin, v - self.origin)
