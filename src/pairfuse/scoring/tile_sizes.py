"""The sizes of the tiles of a reduction, from the memory of its steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairfuse.scoring.factors import Factors
from pairfuse.scoring.footprint import Curves, Footprint, watch
from pairfuse.scoring.plan import Plan
from pairfuse.scoring.shares import Sampled, parts_of, single

TILE_BYTES = 16 * 2**20  # on a CPU: about what stays in its caches
ROWS = 256  # of a tile that does not hold all columns, at most


class TileSizes(NamedTuple):
    """Rows whose factors are kept, and rows and columns of a tile in them."""

    block: int
    rows: int
    columns: int


def bytes_of(footprints: Sequence[Footprint], rows: int, columns: int) -> int:
    """Return the bytes of some steps together, for a number of rows and columns."""
    return sum(x.fixed + rows * x.row + columns * x.column + rows * columns * x.pair for x in footprints)


def tile_sizes(footprints: Sequence[Footprint], rows: int, columns: int, max_bytes: int, *, on_cpu: bool) -> TileSizes:
    """Return the sizes of blocks and tiles that fit into a budget."""
    least = bytes_of(footprints[:2], 1, 1)
    if least > max_bytes:
        raise ValueError(f"max_bytes={max_bytes} is too small for a single pair, which takes about {least}")
    of_factors, of_tile, of_term = footprints
    spare = max_bytes - bytes_of([of_factors, of_tile], 1, columns)
    if spare >= 0:
        share = min(spare // 4 * 3, TILE_BYTES) if on_cpu else spare // 4 * 3
        height = min(rows, 1 + share // max(1, of_tile.row + columns * of_tile.pair))
        spare -= (height - 1) * (of_tile.row + columns * of_tile.pair)
        block = min(rows, 1 + spare // max(1, of_factors.row + columns * of_factors.pair))
        return TileSizes(block, min(height, block), columns)
    both = Footprint(*(a + b for a, b in zip(of_factors, of_tile, strict=True)))
    height = max(1, min(rows, ROWS, max_bytes // 2 // max(1, of_term.row + columns * of_term.pair)))
    spare = max_bytes - both.fixed - bytes_of([of_term], height, columns)
    while height > 1 and _columns(both, height, spare) < min(columns, height):
        height = (height + 1) // 2
    return TileSizes(height, height, max(1, min(columns, _columns(both, height, spare))))


def _columns(footprint: Footprint, rows: int, spare: int) -> int:
    return (spare - rows * footprint.row) // max(1, footprint.column + rows * footprint.pair)


@dataclass(frozen=True)
class TileSteps:
    """Three steps, to measure their memory: the factors, a tile with its share, and the share alone."""

    sampled: Sampled
    gradients: bool

    def __call__(self, plan: Plan, u: Tensor, v: Tensor) -> Curves:
        """Run the steps, and return the bytes that are alive in each."""
        with torch.set_grad_enabled(self.gradients):
            u, v = u.requires_grad_(self.gradients), v.requires_grad_(self.gradients)
            of_factors = watch(partial(self._factors, plan, u, v))[1]
            factors = plan.factors(u, v)
            of_tile = watch(partial(self._tile, plan, u, v, factors))[1]
            return of_factors, of_tile, watch(partial(self._term, u.new_ones(len(u), len(v))))[1]

    def _factors(self, plan: Plan, u: Tensor, v: Tensor) -> Any:
        flat = [x for factors in plan.factors(u, v) for x in factors if x is not None]
        flat = [x for x in flat if x.requires_grad or not self.gradients]
        if not self.gradients or not flat:
            return flat
        return torch.autograd.grad(flat, (u, v), [torch.zeros_like(x) for x in flat], allow_unused=True)

    def _tile(self, plan: Plan, u: Tensor, v: Tensor, factors: list[Factors]) -> Any:
        parts = [parts_of(x) for x in factors]
        cut = [
            {name: part.cut(slice(0, part.tensor.shape[part.dim or 0])) for name, (part, _) in x.items()} for x in parts
        ]
        scores = single(plan(u, v, [Factors(**x) for x in cut]))
        leaves = [x for x in (u, v, *(x for few in cut for x in few.values())) if x.requires_grad]
        return self._term(scores, leaves)

    def _term(self, scores: Tensor, leaves: Sequence[Tensor] = ()) -> Any:
        if not leaves:
            scores = single(scores[..., None].clone()).requires_grad_(self.gradients)
        share = self.sampled.sample(scores)(scores, slice(0, len(scores)))
        if not self.gradients or not share.total.requires_grad:
            return share
        return torch.autograd.grad(share.total, leaves or [scores], allow_unused=True)
