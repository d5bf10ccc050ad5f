"""Sets of items of a comparator: encoded, checked, and scored against each other."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._checks import check_all_pairs, check_int, check_like, check_number
from pairfuse._layers import check_initialized, check_rows_apart
from pairfuse._modes import eval_mode
from pairfuse.decisions import Decision
from pairfuse.items.reading import Items
from pairfuse.items.tower import Side, Tower, first_parameter
from pairfuse.scoring import MAX_BYTES, Scorer

COMPARED = 1000  # embeddings, to see whether two sets are the same


@torch.no_grad()
def encode_items(model: Any, name: str, items: Items, side: Side, batch_size: int, progress: bool) -> Tensor:
    """Return the embeddings of many items, `(N, D)`, in eval mode and without gradients."""
    with eval_mode(model) as still:
        tower: Tower = still._tower(side)
        check_rows_apart(f"encoding {name}", tower.encoder)
        return tower.encode_items(name, items, batch_size=batch_size, progress=progress)


def make_scorer(
    owner: str,
    model: Any,
    u: Tensor,
    v: Tensor,
    *,
    max_bytes: int = MAX_BYTES,
    compile: bool = False,
    progress: bool = False,
) -> Scorer:
    """Return a scorer of two sets of embeddings. Raise unless they fit the model."""
    fusion, head = model.fusion, model.head
    check_all_pairs(owner, u, v, fusion.in_features, fusion.in2_features)
    check_initialized(owner, nn.ModuleList([fusion, head]))
    parameter = first_parameter(nn.ModuleList([fusion, head]))
    if parameter is not None:
        check_like(owner, parameter, u=u, v=v)
    max_bytes = check_int(owner, "max_bytes", max_bytes)
    check_rows_apart(owner, head)
    check_rows_apart(owner, fusion)
    return Scorer(
        fusion, head, u, v, scale=model.embedding_scale, max_bytes=max_bytes, compile=compile, progress=progress
    )


def squeeze_single_output(scores: Tensor) -> Tensor:
    """Drop the last dimension of logits `(N, M, K)` if K is 1."""
    return scores.squeeze(-1) if scores.shape[-1] == 1 else scores


def check_threshold(owner: str, threshold: float | None, decision: Decision | None) -> float:
    """Return the threshold, or that of the decision. Raise unless there is one, and it is a number."""
    if threshold is None and decision is not None:
        return decision.threshold
    if threshold is None:
        raise ValueError(f"{owner} expects threshold=..., or a model with a decision, got neither")
    number = check_number(owner, "threshold", threshold)
    if math.isnan(number):
        raise ValueError(f"{owner} expects threshold to be a number, got NaN")
    return number


def check_same_set(u: Tensor, v: Tensor) -> None:
    """Raise if embeddings of one encoder differ by more than rounding, so that they are of other items."""
    u, v = u[:COMPARED], v[:COMPARED]
    if (u - v).norm() > 0.05 * v.norm():
        raise ValueError(
            "topk: exclude_self=True is for a set with itself, got queries whose embeddings differ from those of the "
            "gallery: pass no queries to Gallery.topk, or the same object twice to SiameseComparator.topk"
        )
