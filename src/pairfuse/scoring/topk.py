"""The k best items of a gallery for each query, found block by block."""

from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse.scoring.blocks import Scorer

BLOCK = 1024  # rows and columns of a block on a CPU: as many as stay in its cache
DEVICE_BLOCK = 32_768
MERGE_BYTES = 128  # for each of the k best of a row, while two lists are merged


class TopK(NamedTuple):
    """The k best of a gallery for each query, best first, as `torch.topk` returns them."""

    values: Tensor
    indices: Tensor


def top_k(scorer: Scorer, k: int, *, exclude_self: bool) -> TopK:
    """Return the k right embeddings with the highest logits for each left one."""
    block = BLOCK if scorer.u.device.type == "cpu" else DEVICE_BLOCK
    rows_at_once = max(1, min(block, scorer.max_bytes // (MERGE_BYTES * k)))
    values = scorer.u.new_empty(len(scorer.u), k, dtype=scorer.dtype)
    indices = torch.empty(len(scorer.u), k, dtype=torch.int64, device=scorer.u.device)
    best: TopK | None = None
    for rows, columns, scores in scorer.blocks(rows_at_once, block):
        if scores.shape[-1] != 1:
            raise ValueError(f"topk expects a head with one output, got {scores.shape[-1]}: use score_matrix")
        scores = scores.squeeze(-1)  # (n, m)
        if exclude_self:
            scores = _without_self(scores, rows.start, columns.start)
        best = _merge(None if columns.start == 0 else best, scores, columns.start, k)
        if columns.stop == len(scorer.v):
            values[rows], indices[rows] = best
    check_scores("topk", values)
    return TopK(values, indices)


def check_scores(owner: str, values: Tensor) -> None:
    """Raise if a score is NaN or infinite, since then the indices are meaningless."""
    if not values.isfinite().all():
        came = "NaN" if values.isnan().any() else "inf" if (values == torch.inf).any() else "-inf"
        raise ValueError(
            f"{owner} expects finite scores, got {came}: the embeddings or the head's weights are too large"
        )


def _merge(best: TopK | None, scores: Tensor, start: int, k: int) -> TopK:
    """Merge the best so far with those of a block whose first column is `start`."""
    if best is None or best.values.shape[1] < k:
        found = _best_of(scores, start, k)
        return found if best is None else _better(best, found, k)
    rows = (~(scores.amax(1) <= best.values[:, -1])).nonzero().squeeze(1)  # the other rows have no better scores
    if len(rows) > 0:
        values, indices = _better(TopK(best.values[rows], best.indices[rows]), _best_of(scores[rows], start, k), k)
        best.values[rows], best.indices[rows] = values, indices
    return best


def _best_of(scores: Tensor, start: int, k: int) -> TopK:
    values, indices = scores.topk(min(k, scores.shape[1]))
    return TopK(values, indices + start)


def _better(one: TopK, other: TopK, k: int) -> TopK:
    values, indices = torch.cat([one.values, other.values], 1), torch.cat([one.indices, other.indices], 1)
    values, order = values.topk(min(k, values.shape[1]))
    return TopK(values, indices.gather(1, order))


def _without_self(block: Tensor, row: int, column: int) -> Tensor:
    """Return the block with −∞ for each item with itself."""
    rows = torch.arange(row, row + block.shape[0], device=block.device)
    columns = torch.arange(column, column + block.shape[1], device=block.device)
    return block.masked_fill(rows[:, None] == columns, -torch.inf)
