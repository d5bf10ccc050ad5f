"""The items of a batch of pairs: taking some, and telling which are different."""

from typing import Any

import torch

from pairfuse.items.batches import Batch, combine, count_items, describe, tensors

GRID = 16  # items on either side of a grid


def take(x: Batch, index: Any) -> Batch:
    """Some items of a batch."""
    return combine(lambda tensor: tensor[index if isinstance(index, slice) else torch.as_tensor(index)], x)


def different_items(x1: Batch, x2: Batch, alike: bool) -> tuple[Batch, Batch]:
    """Different items for either side of a grid: of one kind the same for both."""
    if not alike:
        sides = [take(x, _first_of_each(x, "x1" if x is x1 else "x2")) for x in (x1, x2)]
        return sides[0], sides[1]
    both = combine(lambda a, b: torch.stack([a[: 8 * GRID], b[: 8 * GRID]], 1).flatten(0, 1), x1, x2)
    items = take(both, _first_of_each(both, "x1 and x2"))
    return items, items


def _first_of_each(x: Batch, name: str) -> list[int]:
    """Where up to 16 different items first stand."""
    places: dict[bytes, int] = {}
    for index in range(count_items(name, x)):
        places.setdefault(item_key(x, index), index)
        if len(places) == GRID:
            break
    if len(places) < 2:
        raise ValueError(f"{name} must hold at least two different items, got {describe(x)} with one and the same")
    return list(places.values())


def item_key(x: Batch, index: int) -> bytes:
    """What an item is, so that two can be told apart."""
    parts = (tensor[index].detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in tensors("x", x))
    return b"|".join(part.numpy().tobytes() for part in parts)
