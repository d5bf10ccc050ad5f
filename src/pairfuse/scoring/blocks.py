"""Scores of all pairs, exactly as the comparator scores each: in blocks that fit a budget of memory."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._progress import show_progress
from pairfuse.fusions import Fusion
from pairfuse.fusions.factors import Factors
from pairfuse.scoring.compiling import score_compiled
from pairfuse.scoring.plan import Plan

MAX_BYTES = 256 * 2**20
TILE_BYTES = 8 * 2**20  # on a CPU: what is gone over several times had better stay in the cache
TILE_COLUMNS = 2048
LIBRARY_BYTES = 12 * 2**20  # what a matrix product may allocate for itself
LIGHT = 16  # numbers a pair, at most, of a block that is not worth cutting into tiles
SAMPLE = 1024  # right embeddings whose mean is near enough to all of them
ROWS = 256  # that a block should have, so that what is computed for each of its columns serves many


class ScoreBlock(NamedTuple):
    """A block of a score matrix: `matrix[rows, columns] = scores`."""

    rows: slice
    columns: slice
    scores: Tensor


class Scorer:
    """Scores all pairs of two sets of embeddings, `(N, D)` and `(M, D2)`, block by block.

    Half precision is computed in float32 and rounded at the end. Without gradients a block stays within a budget: the
    factors of its rows and columns and the scores of its pairs, in tiles where several steps follow each other.

    Args:
        fusion: The fusion.
        head: The head.
        u: Left embeddings.
        v: Right embeddings.
        max_bytes: The budget.
        compile: Whether each tile is one compiled kernel.
        progress: Whether a bar shows how many blocks are done.
    """

    def __init__(
        self,
        fusion: Fusion,
        head: nn.Module,
        u: Tensor,
        v: Tensor,
        *,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> None:
        parameters = [*fusion.parameters(), *head.parameters()]
        self.gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (u, v, *parameters))
        self.dtype = reduce(torch.promote_types, [x.dtype for x in (u, v, *parameters)])
        wide = torch.promote_types(self.dtype, torch.float32)
        narrow = any(x.dtype != wide for x in parameters)
        if narrow and not self.gradients:
            fusion, head = copy.deepcopy(fusion).to(wide), copy.deepcopy(head).to(wide)
        self.work = self.dtype if narrow and self.gradients else wide
        self.u, self.v = u, v
        self.max_bytes = max_bytes
        self.compile = compile
        self.progress = progress
        some = v.detach()[:: max(1, len(v) // SAMPLE)]
        some = some[some.isfinite().all(1)]  # one bad row must not spoil the others
        origin = some.mean(0, dtype=self.work) if len(some) and u.shape[1] == v.shape[1] else None
        self.plan = Plan(fusion, head, origin, split=self.work == wide)
        self.left, self.right = self._numbers_per_item()

    def blocks(self, rows: int | None = None, columns: int | None = None) -> Iterator[ScoreBlock]:
        """All scores, block by block, `(n, m, K)` each: row by row, with at most so many rows and columns."""
        height, width = self.block_size(rows or len(self.u), columns or len(self.v))
        starts, ends = range(0, len(self.u), height), range(0, len(self.v), width)
        corners = ((i, j) for i in starts for j in ends)
        steps = show_progress(corners, "scoring", len(starts) * len(ends)) if self.progress else corners
        places = ((_slice(i, height, self.u), _slice(j, width, self.v)) for i, j in steps)
        return (ScoreBlock(*place, self._block(*place)) for place in places)

    def matrix(self) -> Tensor:
        """All scores: `(N, M, K)`, with gradients where they are wanted; then the budget is not looked at."""
        everything = slice(0, len(self.u)), slice(0, len(self.v))
        if self.gradients or len(self.u) == 0 or len(self.v) == 0:
            return self._block(*everything)
        scores: Tensor | None = None
        for rows, columns, block in self.blocks():
            if (rows, columns) == everything:
                scores = block
                continue
            if scores is None:
                scores = block.new_empty(len(self.u), len(self.v), block.shape[-1])
            scores[rows, columns] = block
        assert scores is not None
        return scores

    def _block(self, rows: slice, columns: slice) -> Tensor:
        u, v = self.u[rows].to(self.work), self.v[columns].to(self.work)
        with _without_autocast(u.device):
            factors = self.plan.factors(u, v)
            if self._whole or len(u) == 0 or len(v) == 0:
                scores = self._tile(u, v, factors)
                return self._block(rows, columns) if scores is None else scores.to(self.dtype)
            table: Tensor | None = None
            height, width = self._tile_size(len(u), len(v))
            for i in range(0, len(u), height):
                for j in range(0, len(v), width):
                    at = slice(i, i + height), slice(j, j + width)
                    scores = self._tile(u[at[0]], v[at[1]], [x.block(*at) for x in factors])
                    if scores is None:
                        return self._block(rows, columns)
                    if table is None:
                        table = scores.new_empty(len(u), len(v), scores.shape[-1], dtype=self.dtype)
                    table[at] = scores
        assert table is not None
        return table

    def _tile(self, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor | None:
        """The scores of a tile; None if it cannot be compiled, and is to be cut anew."""
        if self.compile:
            scores = score_compiled(self.plan, u, v, factors)
            self.compile = scores is not None
            return scores
        return self.plan(u, v, factors)  # type: ignore[no-any-return]

    @property
    def _numbers(self) -> int:
        """About how many numbers a tile holds for each pair."""
        return self.plan.fused_numbers() if self.compile else self.plan.numbers()

    @property
    def _whole(self) -> bool:
        """Whether a block is one tile."""
        return self.gradients or (self._numbers <= LIGHT and (self.compile or not self.plan.has_layers))

    @property
    def _pair_bytes(self) -> int:
        """What a pair takes in a tile of its own; 0 where a block is one tile."""
        return 0 if self._whole and not self.compile else self._numbers * self.work.itemsize

    @property
    def _row_bytes(self) -> int:
        """What a row takes in a tile beside its pairs."""
        return sum(part.numbers_per_row() for part, _ in self.plan.slow) * self.work.itemsize

    @property
    def _least_bytes(self) -> int:
        """What a block of one pair takes."""
        return self._row_bytes + self._pair_bytes + (self.left + self.right + self._pair) * self.work.itemsize

    @property
    def _pair(self) -> int:
        """About how many numbers a block, and the one before it, hold for each pair beside a tile."""
        return self._numbers + 1 if self._whole else 2 * self.plan.outputs()

    @property
    def _tile_bytes(self) -> int:
        spare = max(0, self.max_bytes - self._least_bytes) // 4
        limited = self.u.device.type == "cpu" and not self.compile
        return self._row_bytes + self._pair_bytes + (min(TILE_BYTES, spare) if limited else spare)

    def _tile_size(self, rows: int, columns: int) -> tuple[int, int]:
        """How many rows and columns of a block are scored at a time."""
        row, pair = self._row_bytes, self._pair_bytes
        columns = min(columns, (self._tile_bytes - row) // pair, TILE_COLUMNS)
        return min(rows, self._tile_bytes // (row + columns * pair)), columns

    def block_size(self, rows: int, columns: int) -> tuple[int, int]:
        """How many rows and columns, at most so many, a block may have."""
        rows, columns = min(rows, len(self.u)), min(columns, len(self.v))
        if self._least_bytes > self.max_bytes:
            raise ValueError(
                f"max_bytes={self.max_bytes} is too small for a single pair of {type(self.plan.fusion).__name__}, "
                f"which takes about {self._least_bytes}"
            )
        tile = self._tile_bytes if self._pair_bytes else 0
        libraries = min(LIBRARY_BYTES, self.max_bytes // 4)
        pair = self._pair
        numbers = max((self.max_bytes - tile - libraries) // self.work.itemsize, self.left + self.right + pair)

        def fitting(columns: int) -> int:
            return (numbers - columns * self.right) // (self.left + columns * pair)

        while columns > 1 and fitting(columns) < min(rows, columns, ROWS):
            columns = (columns + 1) // 2
        return min(rows, fitting(columns)), columns

    def _numbers_per_item(self) -> tuple[int, int]:
        """About how many numbers a block holds for each of its rows, and of its columns."""
        left, right = 3 * self.u.shape[1], 3 * self.v.shape[1]
        with torch.no_grad(), _without_autocast(self.u.device):
            factors = self.plan.factors(self.u[:1].to(self.work), self.v[:1].to(self.work))
        for part in factors:
            left += 3 * part.left.numel() + 2 * len(part.left)
            right += 3 * part.right.numel() + 2 * len(part.left)
        return left, right


def _slice(start: int, length: int, items: Tensor) -> slice:
    return slice(start, min(start + length, len(items)))


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Scores are computed in float32, also where layers are run in half precision."""
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
