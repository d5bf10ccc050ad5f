"""Batches of items: a tensor, or nested mappings, tuples and lists of tensors, batch first."""

import copy
from collections.abc import Callable, Mapping, MutableMapping
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

Batch = Any  # a Tensor, or a mapping, tuple or list of Batches

KINDS = "a tensor, or nested dicts, tuples or lists of tensors"


def tensors(name: str, batch: Batch) -> list[Tensor]:
    """Return every tensor of a batch in a fixed order. Raise a `TypeError` for anything else in it."""
    if isinstance(batch, Tensor) and batch.layout == torch.strided and not batch.is_nested:
        return [batch]
    if isinstance(batch, Mapping) and not is_tensordict(batch):
        batch = batch.values()
    elif isinstance(batch, PackedSequence) or not isinstance(batch, (tuple, list)):
        raise wrong_kind(name, KINDS, batch)
    else:
        for part in batch:
            if not isinstance(part, (Tensor, Mapping, tuple, list)):
                raise wrong_kind(name, KINDS, part, within=type(batch).__name__)
    return [tensor for part in batch for tensor in tensors(name, part)]


def wrong_kind(name: str, rule: str, value: Any, *, within: str = "") -> TypeError:
    """Return the error for a value, alone or within a list or tuple, that cannot be read as items."""
    kind, advice = type(value).__name__, ""
    if isinstance(value, PackedSequence):
        advice = "pass (padded, lengths), and call pack_padded_sequence in the encoder"
    elif isinstance(value, Tensor) and value.is_nested:
        rule, kind, advice = "a dense tensor", "a nested one", "use torch.nested.to_padded_tensor"
    elif isinstance(value, Tensor):
        rule, kind, advice = "a dense tensor", f"layout {value.layout}", "use .to_dense()"
    elif is_tensordict(value):
        advice = "use .to_dict()"
    elif getattr(getattr(value, "dtype", None), "kind", "") == "f":  # a float array of NumPy
        advice = "use torch.as_tensor(x, dtype=torch.float32), with the dtype of the encoder"
    elif isinstance(value, Number) or hasattr(value, "__array__"):
        advice = "use torch.as_tensor"  # also what a tokenizer returns without return_tensors="pt"
    elif isinstance(value, str):
        advice = "tokenize texts first"
    elif isinstance(value, (DataLoader, Dataset)):
        advice = "pass one batch of it"
    elif hasattr(value, "__next__"):
        advice = "join its items with torch.stack(list(...)), or write an IterableDataset"
    kind += f" in a {within}" if within else ""
    if within and not isinstance(value, str):
        not_a_data_set = "a list or tuple is one batch of parts, not a data set: stack its items with torch.stack, or "
        advice += f"{advice and '; '}{not_a_data_set}pass DataLoader(items, batch_size=256)"
    return TypeError(f"{name} must be {rule}, got {kind}{advice and ': '}{advice}")


def is_tensordict(value: Any) -> bool:
    """Return True for a TensorDict or a tensorclass, which iterate over rows."""
    return hasattr(value, "batch_size") and hasattr(value, "to_tensordict")


def count_items(name: str, batch: Batch) -> int:
    """Return the size B of a batch: the first dimension, which all its tensors share."""
    parts = tensors(name, batch)
    if not parts or any(part.ndim == 0 or part.shape[0] != parts[0].shape[0] for part in parts):
        raise ValueError(f"{name} must hold tensors with one common first dimension, the batch, got {describe(batch)}")
    return parts[0].shape[0]


def describe(batch: Batch) -> str:
    """Return the shapes in a batch for an error: `{'ids': shape (2, 7), 'mask': shape (2, 7)}`."""
    if isinstance(batch, Tensor):
        return f"shape {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in batch.items()) + "}"
    return "[" + ", ".join(describe(value) for value in batch) + "]"


def combine(function: Callable[..., Tensor], *batches: Batch) -> Batch:
    """Apply `function` to the tensors at the same place in every batch. Keep the containers."""
    first = batches[0]
    if isinstance(first, Tensor):
        return function(*batches)
    if isinstance(first, Mapping):
        keeps_class = isinstance(first, MutableMapping) and type(first) is not dict  # such as a tokenizer's output
        combined: Any = copy.copy(first) if keeps_class else {}
        for key in first:
            combined[key] = combine(function, *[batch[key] for batch in batches])
        return combined
    values = [combine(function, *parts) for parts in zip(*batches, strict=True)]
    return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)


def fit_together(x1: Batch, x2: Batch) -> bool:
    """Return True if two batches have the same containers, and tensors of the same shape, dtype and device."""
    if isinstance(x1, Tensor) and isinstance(x2, Tensor):
        if torch.compiler.is_exporting() and any(not isinstance(size, int) for size in (*x1.shape[1:], *x2.shape[1:])):
            return False  # to compare lengths that may vary would make them equal for ever
        return bool(x1.shape == x2.shape and x1.dtype == x2.dtype and x1.device == x2.device)
    if type(x1) is not type(x2) or isinstance(x1, Tensor):
        return False
    if isinstance(x1, Mapping):
        return x1.keys() == x2.keys() and all(fit_together(x1[key], x2[key]) for key in x1)
    return len(x1) == len(x2) and all(fit_together(part1, part2) for part1, part2 in zip(x1, x2, strict=True))


def concatenate(x1: Batch, x2: Batch) -> Batch:
    """Return the items of `x1`, then those of `x2`, as one batch."""
    return combine(_cat, x1, x2)


def add_batch_dimension(x: Batch) -> Batch:
    """Return a single item as a batch of one."""
    return combine(_unsqueeze, x)


def take_rows(x: Batch, start: int, stop: int) -> Batch:
    """Return the items from `start` up to `stop` as a batch."""
    return combine(lambda tensor: tensor[start:stop], x)


def _cat(x1: Tensor, x2: Tensor) -> Tensor:
    return torch.cat([x1, x2])


def _unsqueeze(x: Tensor) -> Tensor:
    return x.unsqueeze(0)


def expand_pairs(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return every left row with every right row, `(N, M, D)` and `(N, M, D2)`, without a copy."""
    return u[:, None].expand(-1, v.shape[0], -1), v[None].expand(u.shape[0], -1, -1)
