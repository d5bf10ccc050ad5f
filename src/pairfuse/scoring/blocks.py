"""Scores of all pairs, equal to those of the comparator, in blocks that fit a memory budget."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._progress import show_progress
from pairfuse.fusions import Fusion
from pairfuse.scoring.compiling import score_compiled
from pairfuse.scoring.factors import Factors
from pairfuse.scoring.footprint import Footprint, measure
from pairfuse.scoring.plan import Plan

MAX_BYTES = 256 * 2**20
TILE_BYTES = 8 * 2**20  # on a CPU: data that is read several times should fit the cache
TILE_COLUMNS = 2048
LIBRARY_BYTES = 12 * 2**20  # that a matrix product may allocate internally
LIGHT = 16  # a block with at most this many numbers per pair is not cut into tiles
SAMPLE = 1024  # number of right embeddings to estimate their mean from
ROWS = 256  # that a block should have, to share the work for each of its columns


class ScoreBlock(NamedTuple):
    """A block of a score matrix: `matrix[rows, columns] = scores`."""

    rows: slice
    columns: slice
    scores: Tensor


class Scorer:
    """Scores all pairs of two sets of embeddings, `(N, D)` and `(M, D2)`, block by block.

    Half precision is computed in float32 and rounded at the end. Without gradients a block stays within a budget: it
    holds the factors of its rows and columns and the scores of its pairs. It is cut into tiles if scoring takes
    several steps.

    Args:
        fusion: The fusion.
        head: The head.
        u: Left embeddings.
        v: Right embeddings.
        scale: A number `()` that the embeddings are multiplied by before they are fused; None stands for 1.
        max_bytes: The budget.
        compile: If True, each tile is one compiled kernel.
        progress: If True, a bar shows how many blocks are done.
    """

    def __init__(
        self,
        fusion: Fusion,
        head: nn.Module,
        u: Tensor,
        v: Tensor,
        *,
        scale: Tensor | None = None,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> None:
        parameters = [*fusion.parameters(), *head.parameters()]
        self.gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (u, v, *parameters))
        self.dtype = reduce(torch.promote_types, [x.dtype for x in (u, v, *parameters)])
        wide = torch.promote_types(self.dtype, torch.float32)
        has_narrow = any(x.dtype != wide for x in parameters)
        if has_narrow and not self.gradients:
            fusion, head = copy.deepcopy(fusion).to(wide), copy.deepcopy(head).to(wide)
        self.compute_dtype = self.dtype if has_narrow and self.gradients else wide
        self.u, self.v = u, v
        self.max_bytes = max_bytes
        self.compile = compile
        self.progress = progress
        moves = any(isinstance(part, Fusion) and part.translation_invariant for part in fusion.modules())
        self.scale = scale if scale is None or self._unlimited or scale != 1 else None
        origin = self._sized(_middle(v if self._unlimited else _some(v), self.compute_dtype)) if moves else None
        self.plan = Plan(fusion, head, origin, split=self.compute_dtype == wide)

    def blocks(self, rows: int | None = None, columns: int | None = None) -> Iterator[ScoreBlock]:
        """Iterate over the scores in blocks `(n, m, K)`, row by row, with at most the given rows and columns."""
        height, width = self.block_size(rows or self.u.shape[0], columns or self.v.shape[0])
        starts, ends = range(0, self.u.shape[0], height), range(0, self.v.shape[0], width)
        corners = ((i, j) for i in starts for j in ends)
        steps = show_progress(corners, "scoring", len(starts) * len(ends)) if self.progress else corners
        places = ((_slice(i, height, self.u), _slice(j, width, self.v)) for i, j in steps)
        return (ScoreBlock(*place, self.block(*place)) for place in places)

    def matrix(self) -> Tensor:
        """Return all scores `(N, M, K)`. With gradients the budget is ignored."""
        everything = slice(0, self.u.shape[0]), slice(0, self.v.shape[0])
        if self._unlimited or self.u.numel() == 0 or self.v.numel() == 0:
            return self.block(*everything)
        scores: Tensor | None = None
        for rows, columns, block in self.blocks():
            if (rows, columns) == everything:
                scores = block
                continue
            if scores is None:
                scores = block.new_empty(self.u.shape[0], self.v.shape[0], block.shape[-1])
            scores[rows, columns] = block
        assert scores is not None
        return scores

    def block(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Return the scores of some rows and columns, slices or positions: `(n, m, K)`."""
        u, v = self._sized(self.u[rows]), self._sized(self.v[columns])
        with without_autocast(u.device):
            factors = self.plan.factors(u, v)
            if self._unlimited or u.numel() == 0 or v.numel() == 0 or self._is_one_tile:
                scores = self._tile(u, v, factors)
                return self.block(rows, columns) if scores is None else scores.to(self.dtype)
            table: Tensor | None = None
            height, width = self._tile_size(u.shape[0], v.shape[0])
            for i in range(0, u.shape[0], height):
                for j in range(0, v.shape[0], width):
                    at = slice(i, i + height), slice(j, j + width)
                    scores = self._tile(u[at[0]], v[at[1]], [x.block(*at) for x in factors])
                    if scores is None:
                        return self.block(rows, columns)
                    if table is None:
                        table = scores.new_empty(u.shape[0], v.shape[0], scores.shape[-1], dtype=self.dtype)
                    table[at] = scores
        assert table is not None
        return table

    def _sized(self, x: Tensor) -> Tensor:
        """Return embeddings in the dtype and the size in which they are fused."""
        x = x.to(self.compute_dtype)
        return x if self.scale is None else x * self.scale

    def _tile(self, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor | None:
        """Return the scores of a tile; None if it cannot be compiled. Then cut the block again without the compiler."""
        if self.compile:
            scores = score_compiled(self.plan, u, v, factors)
            self.compile = scores is not None
            return scores
        return self.plan(u, v, factors)  # type: ignore[no-any-return]

    @property
    def _unlimited(self) -> bool:
        """True if everything is computed at once: for gradients, and when torch compiles or exports one graph."""
        return self.gradients or self.is_traced

    @property
    def is_traced(self) -> bool:
        """True when torch compiles, exports or transforms, or on meta tensors."""
        return torch.compiler.is_compiling() or self.u.device.type == "meta" or _is_transformed(self.u)

    @cached_property
    def _measured(self) -> tuple[Footprint, ...]:
        with without_autocast(self.u.device):
            return measure(self.plan, self.u[:0].to(self.compute_dtype), self.v[:0].to(self.compute_dtype))

    @property
    def _tile_footprint(self) -> Footprint:
        """Return the bytes of a tile."""
        tile = self._measured[1]
        if self.compile and self.plan.is_one_kernel:
            return tile._replace(pair=2 * self.plan.outputs * self.compute_dtype.itemsize)
        return tile

    @property
    def _is_one_tile(self) -> bool:
        """True if a block is one tile."""
        if self._unlimited:
            return True
        light = self._tile_footprint.pair <= LIGHT * self.compute_dtype.itemsize
        return light and (self.compile or not self.plan.has_layers)

    @property
    def _block_footprint(self) -> Footprint:
        """Return the bytes of a block and the one before it, without a tile in it."""
        factors, tile = self._measured[0], self._tile_footprint
        one, size = self._is_one_tile, self.compute_dtype.itemsize
        before = self.plan.outputs * self.dtype.itemsize
        return Footprint(
            factors.fixed + one * tile.fixed,
            factors.row + one * tile.row + self.u.shape[1] * size,
            factors.column + one * tile.column + self.v.shape[1] * size,
            (tile.pair if one else before) + before,
        )

    @property
    def _least_bytes(self) -> int:
        """Return the bytes of a block of one pair."""
        return sum(self._block_footprint) + (0 if self._is_one_tile else sum(self._tile_footprint))

    @property
    def _tile_bytes(self) -> int:
        """Return the bytes that a tile may use; 0 if a block is one tile."""
        if self._is_one_tile:
            return 0
        spare = max(0, self.max_bytes - self._least_bytes) // 4
        on_cpu = self.u.device.type == "cpu" and not self.compile
        return sum(self._tile_footprint) + (min(TILE_BYTES, spare) if on_cpu else spare)

    def _tile_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the number of rows and columns of a tile."""
        fixed, row, column, pair = self._tile_footprint
        spare = self._tile_bytes - fixed
        columns = max(1, min(columns, (spare - row) // max(1, column + pair), TILE_COLUMNS))
        return max(1, min(rows, (spare - columns * column) // max(1, row + columns * pair))), columns

    def block_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the number of rows and columns of a block, at most the given ones."""
        rows, columns = min(rows, self.u.shape[0]), min(columns, self.v.shape[0])
        if self._least_bytes > self.max_bytes:
            raise ValueError(
                f"max_bytes={self.max_bytes} is too small for a single pair of {type(self.plan.fusion).__name__}, "
                f"which takes about {self._least_bytes}"
            )
        fixed, row, column, pair = self._block_footprint
        libraries = min(LIBRARY_BYTES, self.max_bytes // 4)
        spare = max(self.max_bytes - self._tile_bytes - libraries - fixed, row + column + pair)

        def fitting(columns: int) -> int:
            return (spare - columns * column) // (row + columns * pair)

        while columns > 1 and fitting(columns) < min(rows, columns, ROWS):
            columns = (columns + 1) // 2
        return min(rows, fitting(columns)), columns


def _slice(start: int, length: int, items: Tensor) -> slice:
    return slice(start, min(start + length, len(items)))


def _some(v: Tensor) -> Tensor:
    return v[:: max(1, v.shape[0] // SAMPLE)]


def _middle(v: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean of some right embeddings. Rows with NaN or infinity are left out."""
    some = v.detach().to(dtype)
    good = some.isfinite().all(1, keepdim=True)
    return some.where(good, 0).sum(0) / good.sum().clamp(min=1)


def _is_transformed(x: Tensor) -> bool:
    """True inside vmap and other transforms, and while tracing or exporting: the tensor has no values then."""
    return torch._C._functorch.is_functorch_wrapped_tensor(x) or type(x) not in (Tensor, nn.Parameter)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Turn autocast off: scores are computed in float32."""
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
