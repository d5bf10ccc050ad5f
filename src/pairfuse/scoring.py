"""Scores of all pairs, exactly as the comparator scores each: in blocks that fit a budget of memory."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._batches import all_pairs
from pairfuse._checks import check_logits
from pairfuse.fusions import Fusion
from pairfuse.heads import is_plain, split_head

MAX_BYTES = 256 * 2**20
CACHE_BYTES = 8 * 2**20  # of a block with hidden features, on a CPU
SIDE = 256  # columns of such a block at most: nearly square blocks reuse what they read
CHUNK = 16_384  # gallery items that a block of a top-k holds at most


_ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Hardswish),
)


class TopK(NamedTuple):
    """The k best of a gallery for each query, best first, as `torch.topk` returns them."""

    values: Tensor
    indices: Tensor


def score_block(fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor) -> Tensor:
    """The logits of all pairs of two blocks of embeddings, `(n, D)` and `(m, D2)`: `(n, m, K)`."""
    split = None if _has_hooks(fusion) or _has_hooks(head) else split_head(head)
    if split is None:
        fused = fusion(*all_pairs(u, v))
        return _table(head(fused.flatten(0, 1)), len(u), len(v))
    first, rest = split
    scores = fusion.score_all(u, v, first.weight)  # (H, n, m)
    if first.bias is not None:
        scores = scores + first.bias[:, None, None]
    columns = scores.flatten(1)  # (H, n · m): a pair a column, so that no copy is needed to turn them
    for layer in rest:
        if _acts_on_each_number(layer):
            columns = layer(columns)
        elif isinstance(layer, nn.Linear) and is_plain(layer, nn.Linear):
            columns = layer.weight @ columns
            columns = columns if layer.bias is None else columns + layer.bias[:, None]
        else:
            columns = _table(layer(columns.mT), len(u), len(v)).flatten(0, 1).mT
    return columns.mT.unflatten(0, (len(u), len(v)))  # type: ignore[no-untyped-call, no-any-return]


def score_blocks(
    fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor, max_bytes: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The logits of all pairs, block by block: the rows, the columns, and `(n, m, K)`."""
    rows, columns = block_size(fusion, head, u, v, max_bytes, len(v))
    for i in range(0, len(u), rows):
        for j in range(0, len(v), columns):
            at = slice(i, i + rows), slice(j, j + columns)
            yield *at, score_block(fusion, head, u[at[0]], v[at[1]])


def score_all_pairs(fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor, max_bytes: int) -> Tensor:
    """The logits of all pairs, `(N, M, K)`, with gradients where they are wanted."""
    if len(u) == 0 or len(v) == 0:
        return score_block(fusion, head, u, v)
    if torch.is_grad_enabled():
        step, _ = block_size(fusion, head, u, v, max_bytes, len(v))
        blocks = [score_block(fusion, head, u[i : i + step], v) for i in range(0, len(u), step)]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)
    scores: Tensor | None = None
    for rows, columns, block in score_blocks(fusion, head, u, v, max_bytes):
        if block.shape[:2] == (len(u), len(v)):
            return block
        if scores is None:
            scores = block.new_empty(len(u), len(v), block.shape[-1])
        scores[rows, columns] = block
    assert scores is not None
    return scores


def top_k(fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor, k: int, *, exclude_self: bool, max_bytes: int) -> TopK:
    """The k right embeddings of the highest logits for each left one, block by block."""
    values = u.new_empty(len(u), k)
    indices = torch.empty(len(u), k, dtype=torch.int64, device=u.device)
    rows, columns = block_size(fusion, head, u, v, max_bytes, min(len(v), CHUNK))
    for i in range(0, len(u), rows):
        best: TopK | None = None
        for j in range(0, len(v), columns):
            scores = score_block(fusion, head, u[i : i + rows], v[j : j + columns])  # (n, m, K)
            if scores.shape[-1] != 1:
                raise ValueError(f"topk expects a head with one output, got {scores.shape[-1]}: use score_matrix")
            block = scores.squeeze(-1)
            if exclude_self:
                block = _without_self(block, i, j)
            found, where = block.topk(min(k, block.shape[1]))
            here = TopK(found, where + j)
            best = here if best is None else _better(best, here, k)
        assert best is not None
        values[i : i + rows], indices[i : i + rows] = best
    return TopK(values, indices)


def bytes_per_pair(fusion: Fusion, head: nn.Module, u: Tensor) -> int:
    """About how much memory a block takes for each pair."""
    split = split_head(head)
    if split is None:  # the fused features, their inputs, and what the head makes of them
        numbers = 2 * fusion.out_features + 2 * (fusion.in_features + fusion.in2_features)
    else:
        numbers = 3 * split[0].out_features
    return (numbers + fusion.numbers_per_pair()) * max(4, u.element_size())


def block_size(fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor, max_bytes: int, columns: int) -> tuple[int, int]:
    """How many rows and columns a block may have, at most as many columns as asked for."""
    cost = bytes_per_pair(fusion, head, u)
    pairs = max_bytes // cost
    if pairs < 1:
        raise ValueError(
            f"max_bytes={max_bytes} is too small for a single pair of {type(fusion).__name__}, which takes about {cost}"
        )
    split = split_head(head)
    if u.device.type == "cpu" and not torch.is_grad_enabled() and (split is None or split[0].out_features > 1):
        pairs = max(1, min(pairs, CACHE_BYTES // cost))  # several passes over a block: it had better stay in the cache
        columns = min(columns, SIDE)
    columns = max(1, min(columns, pairs))
    return max(1, min(len(u), pairs // columns)), columns


def _better(one: TopK, other: TopK, k: int) -> TopK:
    values, indices = torch.cat([one.values, other.values], 1), torch.cat([one.indices, other.indices], 1)
    values, order = values.topk(min(k, values.shape[1]))
    return TopK(values, indices.gather(1, order))


def _without_self(block: Tensor, row: int, column: int) -> Tensor:
    """The block with −∞ where an item meets itself."""
    rows = torch.arange(row, row + block.shape[0], device=block.device)
    columns = torch.arange(column, column + block.shape[1], device=block.device)
    return block.masked_fill(rows[:, None] == columns, -torch.inf)


def _table(logits: Tensor, rows: int, columns: int) -> Tensor:
    """The logits `(n · m, K)` of a head, or `(n · m,)`, as `(n, m, K)`."""
    check_logits(logits, rows * columns)
    return logits.reshape(rows, columns, 1 if logits.ndim == 1 else logits.shape[1])


def _acts_on_each_number(layer: nn.Module) -> bool:
    """Whether a layer treats every number alike, wherever it stands."""
    return is_plain(layer, *_ELEMENTWISE) or (is_plain(layer, nn.Dropout) and not layer.training)


def _has_hooks(module: nn.Module) -> bool:
    """Whether calling the module does more than its forward: then it must be called."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
