"""Reading many items batch by batch: from a batch, a data set or a data loader."""

import math
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from pairfuse.items.batches import Batch, combine, count_items, take_rows, wrong_kind

Items: TypeAlias = Batch | Dataset[Any] | DataLoader[Any]
"""Many items: a batch, a data set or a data loader.

- **A batch** is a tensor, or nested mappings, tuples or lists of tensors, batch first. The encoder gets all of it, as
  when you call the model. A Python list or tuple is one batch of parts, not a data set: to pass a list of single items,
  join them with `torch.stack`, or pass `DataLoader(items, batch_size=256)`.
- **A data set** is a `Dataset` or `IterableDataset` of torch, or any object with `__getitem__` and `__len__`. It gives
  items, or `(item, label)`.
- **A `DataLoader`** gives batches of a data set. Results are indexed by position, so it must give all items in order:
  any sampler other than a `SequentialSampler` is an error. A `collate_fn` of your own must keep the order too. pairfuse
  only counts the items: it cannot see their order in a batch. One that sorts by length, as for `pack_padded_sequence`,
  makes the indices wrong.

Labels are left out: if a data set or loader gives a tuple or list of two parts, and the second part is one number or
string for each item (a tensor of shape `(B,)` or `(B, 1)`, or a list of such values), only the first part is an item.
If the second part belongs to the item, such as the lengths in `(ids, lengths)`, let the data set give a dict, a named
tuple or `((ids, length), label)`. A tuple of one part, such as from a `TensorDataset` of one tensor, is that part.
"""


def read_batches(name: str, items: Items, batch_size: int) -> Iterator[tuple[Batch, bool]]:
    """Yield the items in checked batches, each with True if labels were left out."""
    if isinstance(items, (Tensor, Mapping, list, tuple)):
        count = count_items(name, items)
        if torch.compiler.is_exporting():  # a loop over batches would fix their number
            yield items, False
            return
        for start in range(0, count, batch_size):
            yield take_rows(items, start, start + batch_size), False
        return
    if not (isinstance(items, (DataLoader, Dataset)) or _is_data_set(items)):
        raise wrong_kind(
            name, "a tensor, nested dicts, tuples or lists of tensors, a Dataset or a DataLoader of items", items
        )
    loader = items if isinstance(items, DataLoader) else DataLoader(items, batch_size)
    due, read = _count_in_order(name, loader), 0
    for given in loader:
        parts = _count_parts(given)
        labeled = parts == 2 and _are_labels(given[1])
        batch = given[0] if labeled or parts == 1 else given
        read += count_items(name, batch)
        yield batch, labeled
    if due is not None and read != due:
        raise _incomplete(name, f"{read} of {due} items", "check the collate_fn of the DataLoader")


def read_item(items: Items, index: int) -> Any:
    """Return one item of a batch or a data set, without its label."""
    if isinstance(items, (Tensor, Mapping, list, tuple)):
        return combine(lambda tensor: tensor[index], items)
    given = items[index]  # type: ignore[index]  # `count_readable` has excluded loaders
    parts = _count_parts(given)
    return given[0] if parts == 1 or (parts == 2 and _is_label(given[1])) else given


def count_readable(name: str, items: Items) -> int:
    """Return the number of items. Raise unless `read_item` can read them in any order."""
    if isinstance(items, (Tensor, Mapping, list, tuple)):
        return count_items(name, items)
    if isinstance(items, (DataLoader, IterableDataset)) or not _is_data_set(items):
        rule = "a tensor, nested dicts, tuples or lists of tensors, or a data set with __getitem__ and __len__"
        advice = ": pass its data set, loader.dataset" if isinstance(items, DataLoader) else ""
        raise TypeError(f"{name} must be {rule}, got {type(items).__name__}{advice}")
    return len(items)  # type: ignore[arg-type]


def known_length(items: Items) -> int | None:
    """Return the number of items, or None if it is unknown before they are read."""
    if isinstance(items, DataLoader):
        return None if items.batch_sampler is None else known_length(items.dataset)
    if isinstance(items, IterableDataset):
        return None
    if isinstance(items, Dataset) or _is_data_set(items):
        return len(items) if hasattr(items, "__len__") else None
    while isinstance(items, (Mapping, list, tuple)) and len(items) > 0:
        items = next(iter(items.values() if isinstance(items, Mapping) else items))
    return items.shape[0] if isinstance(items, Tensor) and not items.is_nested and items.ndim > 0 else None


def count_batches(items: Items, batch_size: int) -> int | None:
    """Return the number of batches that `read_batches` yields, or None if it is unknown before."""
    if isinstance(items, DataLoader):
        return None if isinstance(items.dataset, IterableDataset) else len(items)
    length = known_length(items)
    return None if length is None else math.ceil(length / batch_size)


def _is_data_set(items: Any) -> bool:
    """Return True if an object that is not a `Dataset` of torch can be read as one."""
    reads = all(hasattr(type(items), method) for method in ("__getitem__", "__len__"))
    other = isinstance(items, (str, bytes, Tensor, Mapping, list, tuple)) or hasattr(items, "__array__")
    return reads and not other


def _count_parts(given: Any) -> int:
    """Return the number of parts of a tuple or list; 0 for anything else, also for a named tuple."""
    return len(given) if isinstance(given, (list, tuple)) and not hasattr(given, "_fields") else 0


def _is_label(part: Any) -> bool:
    """Return True for the second part of a single item if `_are_labels` is true for a batch of such parts."""
    return isinstance(part, (Number, str)) or getattr(part, "shape", None) in ((), (1,))


def _are_labels(part: Any) -> bool:
    if isinstance(part, Tensor):
        return part.ndim == 1 or (part.ndim == 2 and part.shape[1] == 1)
    return isinstance(part, (list, tuple)) and all(isinstance(label, (Number, str)) for label in part)


def _count_in_order(name: str, loader: DataLoader[Any]) -> int | None:
    """Return the number of items that a loader gives, if known. Raise unless it surely gives all of them in order."""
    count, drops = None, loader.drop_last
    if type(loader).__iter__ is not DataLoader.__iter__:
        raise _incomplete(name, "a DataLoader with its own __iter__", "pass its data set")
    if isinstance(loader.dataset, IterableDataset):
        if loader.num_workers > 1:  # each worker gives all items, or its share
            got = f"a DataLoader with num_workers={loader.num_workers} over an IterableDataset"
            raise _incomplete(name, got, "pass num_workers=1")
    else:
        total: int = len(loader.dataset)  # type: ignore[arg-type]
        sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        order, drops = sampler, False
        if type(sampler) is BatchSampler:  # else an element of the data set may be a batch of any size
            count, order, drops = total, sampler.sampler, sampler.drop_last and total % sampler.batch_size > 0
        if type(order) is not SequentialSampler or len(order) != total:
            advice = "pass shuffle=False and no sampler, or the data set itself"
            raise _incomplete(name, f"a DataLoader with a {type(order).__name__}", advice)
    if drops:
        raise _incomplete(name, "a DataLoader with drop_last=True", "pass drop_last=False")
    if not loader.in_order:
        raise _incomplete(name, "a DataLoader with in_order=False", "pass in_order=True")
    return count


def _incomplete(name: str, got: str, advice: str) -> ValueError:
    return ValueError(f"{name} must give all its items in order, got {got}: {advice}")
