"""What a reduction over all pairs is made of: the shares of rows, and tensors that tiles read in slices."""

from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from pairfuse.scoring.factors import Factors


class Share(NamedTuple):
    """What some rows of the score matrix contribute to a reduction, which is `sum of totals / sum of terms`.

    Attributes:
        total: A scalar with gradients.
        terms: How many terms the total has, a scalar without gradients; None if the loss is the sum of the totals.
    """

    total: Tensor
    terms: Tensor | None = None


Term: TypeAlias = Callable[[Tensor, slice], Share]
"""From the scores `(n, M)` of some rows with all columns, and which rows these are, to their share."""


class Sampled(Hashable, Protocol):
    """What a reduction is measured by. Equal ones take the same memory."""

    def sample(self, scores: Tensor) -> Term:
        """Return a term for scores of this shape that takes the most memory."""


class Reduction(Protocol):
    """The shares of the rows of a score matrix, which may need a first look at all scores."""

    looks: bool

    @property
    def sampled(self) -> Sampled:
        """What to measure."""

    def look(self, scores: Tensor, rows: slice) -> None:
        """Note what must be known about some rows before any share is, without gradients."""

    def finish_look(self) -> None:
        """Put together what was noted about all rows."""

    def share(self, scores: Tensor, rows: slice) -> Share:
        """Return the share of some rows."""


def single(scores: Tensor) -> Tensor:
    """Return scores `(n, m, 1)` as `(n, m)`, at least in float32."""
    if scores.shape[-1] != 1:
        raise ValueError(
            f"AllPairsLoss expects a head with one output, got {scores.shape[-1]}: higher must mean 'more the same'"
        )
    return scores.squeeze(-1).to(torch.promote_types(scores.dtype, torch.float32))


class Part:
    """A tensor that tiles read in slices along one dimension, and its gradient, which they add up."""

    def __init__(self, tensor: Tensor, dim: int | None = None) -> None:
        self.tensor, self.dim = tensor, dim
        self.gradient: Tensor | None = None

    @property
    def length(self) -> int:
        """The number of slices of length 1."""
        return 1 if self.dim is None else self.tensor.shape[self.dim]

    def cut(self, where: slice) -> Tensor:
        """Return a slice as a leaf of its own graph."""
        return self._slice(self.tensor.detach(), where).requires_grad_(self.tensor.requires_grad)

    def add(self, where: slice, gradient: Tensor | None) -> None:
        """Add the gradient of a slice."""
        if gradient is not None:
            if self.gradient is None:
                self.gradient = torch.zeros_like(self.tensor, memory_format=torch.contiguous_format)
            self._slice(self.gradient, where).add_(gradient)

    def _slice(self, x: Tensor, where: slice) -> Tensor:
        return x if self.dim is None else x.narrow(self.dim, where.start, where.stop - where.start)


Named: TypeAlias = dict[str, tuple[Part, bool]]


def parts_of(factors: Factors) -> Named:
    """Return the tensors of factors by their names, and whether they hold the rows."""
    dims = {"left": (1, True), "right": (1, False), "row": (0, True), "column": (0, False)}
    tensors = {name: x for name, x in factors._asdict().items() if x is not None}
    return {name: (Part(x, dims[name][0]), dims[name][1]) for name, x in tensors.items()}
