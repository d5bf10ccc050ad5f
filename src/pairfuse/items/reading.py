"""Embedding many items: a tensor, a data set or a data loader, batch by batch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from pairfuse._checks import check_int
from pairfuse._progress import show_progress
from pairfuse.items.batches import Batch, combine, count_items, tensors


def encode_items(
    encode: Callable[[Batch], Tensor],
    name: str,
    items: Any,
    *,
    batch_size: int,
    progress: bool,
    device: torch.device | None,
) -> Tensor:
    """The embeddings of all items, `(N, D)`: each item is encoded once."""
    batch_size = check_int(f"encoding {name}", "batch_size", batch_size)
    batches: Iterable[Batch] = _batches(name, items, batch_size)
    if progress:
        batches = show_progress(batches, f"encoding {name}", _count_batches(items, batch_size))
    embeddings = [encode(_on(device, name, batch)) for batch in batches]
    if not embeddings:
        raise ValueError(f"{name} must hold at least one item, got none")
    return embeddings[0] if len(embeddings) == 1 else _join(embeddings)


def _join(embeddings: list[Tensor]) -> Tensor:
    """All rows as one tensor; each batch is freed as soon as it is copied, so that memory is not needed twice."""
    joined = embeddings[0].new_empty(sum(map(len, embeddings)), embeddings[0].shape[1])
    embeddings.reverse()
    start = 0
    while embeddings:
        batch = embeddings.pop()
        joined[start : start + len(batch)] = batch
        start += len(batch)
    return joined


def _batches(name: str, items: Any, batch_size: int) -> Iterator[Batch]:
    if isinstance(items, (Tensor, Mapping, list, tuple)):
        for start in range(0, count_items(name, items), batch_size):
            yield combine(lambda tensor, at=start: tensor[at : at + batch_size], items)
        return
    if not isinstance(items, (DataLoader, Dataset)):
        advice = ": use torch.as_tensor" if hasattr(items, "__array__") else ""
        raise TypeError(
            f"{name} must be a tensor, nested dicts, tuples or lists of tensors, a Dataset or a DataLoader of items, "
            f"got {type(items).__name__}{advice}"
        )
    if isinstance(items, DataLoader):
        _check_order(name, items)
    loader = items if isinstance(items, DataLoader) else DataLoader(items, batch_size)
    for batch in loader:
        yield batch[0] if isinstance(batch, (list, tuple)) and len(batch) == 1 else batch  # a TensorDataset's tuple


def known_length(items: Any) -> int | None:
    """How many items there are, where that can be told before they are read."""
    if isinstance(items, Tensor) and items.ndim > 0:
        return len(items)
    return len(items) if isinstance(items, Dataset) and hasattr(items, "__len__") else None


def _count_batches(items: Any, batch_size: int) -> int | None:
    if isinstance(items, DataLoader):
        return None if isinstance(items.dataset, IterableDataset) else len(items)
    length = known_length(items)
    return None if length is None else math.ceil(length / batch_size)


def _check_order(name: str, loader: DataLoader[Any]) -> None:
    """Raise if a loader gives its items in a random order, or not all: an index would then mean nothing."""
    if isinstance(loader.sampler, (RandomSampler, WeightedRandomSampler, SubsetRandomSampler)):
        raise ValueError(f"{name} must keep its order, got a DataLoader that shuffles: pass shuffle=False")
    if loader.drop_last and not isinstance(loader.dataset, IterableDataset):
        count, size = len(loader.sampler), loader.batch_size  # type: ignore[arg-type]
        if size is not None and count % size:
            raise ValueError(f"{name} must give all {count} items, got a DataLoader with drop_last=True: pass False")


def _on(device: torch.device | None, name: str, batch: Batch) -> Batch:
    tensors(name, batch)  # or raise: nothing else can be moved
    return batch if device is None else combine(lambda tensor: tensor.to(device), batch)
