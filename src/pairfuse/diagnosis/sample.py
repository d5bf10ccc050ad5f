"""The pairs that a model is diagnosed on: some of them, their targets, and the different items among them."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairfuse.items.batches import Batch, combine, count_items, describe, fit_together, tensors

GRID = 16  # items on either side of a grid
PAIRS = 256  # at most so many pairs are called


@dataclass(frozen=True)
class Sample:
    """A batch of pairs, checked, and the different items among them.

    Attributes:
        x1, x2: The given pairs, without gradients.
        given_y: The targets as they were given, or None.
        y: The targets `(B,)`, float64, or None.
        same: Which pairs are the same `(B,)`, or None.
        same_kind: True if both sides take the same kind of item; then `left` and `right` are the same items.
        left, right: Different items, at most 16: rows and columns of the grid.
    """

    x1: Batch
    x2: Batch
    given_y: Tensor | None
    y: Tensor | None
    same: Tensor | None
    same_kind: bool
    left: Batch
    right: Batch

    @classmethod
    def of(cls, x1: Batch, x2: Batch, y: Tensor | None) -> "Sample":
        """The sample of a batch of pairs; raise if x1, x2 and y do not fit each other."""
        check_pairs(x1, x2, y)
        x1, x2 = (combine(_plain, x) for x in (x1, x2))
        targets = same = None
        if y is not None:
            targets = y.detach().reshape(len(y)).double().cpu()
            least, greatest = float(targets.min()), float(targets.max())
            same = targets > (0 if least < 0 else 0.5 if greatest <= 1 else (least + greatest) / 2)
        same_kind = fit_together(take(x1, [0]), take(x2, [0]))
        return cls(x1, x2, y, targets, same, same_kind, *_different_items(x1, x2, same_kind))

    def of_two_kinds(self) -> "Sample":
        """The same pairs, whose sides take different kinds of items though these look alike."""
        return replace(self, same_kind=False, **_different_items(self.x1, self.x2, False)._asdict())

    @property
    def rows(self) -> int:
        """How many left items the grid has."""
        return count_items("x1", self.left)

    @property
    def columns(self) -> int:
        """How many right items the grid has."""
        return count_items("x2", self.right)

    def some_pairs(self, most: int = PAIRS) -> tuple[Batch, Batch]:
        """The first of the given pairs."""
        return take(self.x1, slice(most)), take(self.x2, slice(most))

    def mixed_pairs(self) -> tuple[Batch, Batch]:
        """As many pairs of different items as the shorter side of the grid has items."""
        count = min(self.rows, self.columns)
        return take(self.left, range(count)), take(self.right, torch.arange(count).roll(1))


def check_pairs(x1: Batch, x2: Batch, y: Tensor | None) -> None:
    """Raise if x1, x2 and y do not fit each other."""
    size1, size2 = count_items("x1", x1), count_items("x2", x2)
    if size1 != size2:
        raise ValueError(
            f"x1 and x2 must hold the same number of items, got {size1} (x1 of {describe(x1)}) and {size2} (x2 of "
            f"{describe(x2)})"
        )
    if size1 == 0:
        raise ValueError(f"x1 and x2 must hold at least one pair, got none: {describe(x1)}")
    if y is None:
        return
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor of {size1} targets, 1 = same and 0 = different, got {type(y).__name__}")
    if y.shape not in ((size1,), (size1, 1)):
        raise ValueError(f"y must hold one target for each of {size1} pairs, shape ({size1},), got {describe(y)}")


def take(x: Batch, index: Any) -> Batch:
    """Some items of a batch."""
    return combine(lambda tensor: tensor[index if isinstance(index, slice) else torch.as_tensor(index)], x)


def mixed(x: Batch, count: int) -> Batch:
    """The first `count` items; where there are fewer, also mixtures, whose numbers are each taken from one of two."""
    generator = torch.Generator().manual_seed(0)
    items = count_items("x", x)
    first, second = (torch.randint(items, (max(count - items, 0),), generator=generator) for _ in range(2))

    def with_mixtures(tensor: Tensor) -> Tensor:
        a, b = tensor[first], tensor[second]
        chosen = torch.rand(a.shape, generator=generator).to(a.device) < 0.5
        return torch.cat([tensor[:count], a.where(chosen, b)])

    return combine(with_mixtures, x)


def standardized(x: Batch) -> Batch:
    """The same items with floating-point tensors of mean 0 and size 1."""

    def of_size_1(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        centered = tensor - tensor.mean(0)
        return centered / centered.square().mean().sqrt().clamp_min(torch.finfo(tensor.dtype).tiny)

    return combine(of_size_1, x)


def cast(x: Batch, dtype: torch.dtype) -> Batch:
    """The same items with floating-point tensors in another type."""
    return combine(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, x)


def all_pairs(left: Batch, right: Batch) -> tuple[Batch, Batch]:
    """Every left item with every right one, row by row."""
    n, m = count_items("x1", left), count_items("x2", right)
    return take(left, torch.arange(n).repeat_interleave(m)), take(right, torch.arange(m).repeat(n))


def item_key(x: Batch, index: int) -> bytes:
    """Bytes by which two items can be compared."""
    parts = (tensor[index].detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in tensors("x", x))
    return b"|".join(part.numpy().tobytes() for part in parts)


def different_items(name: str, x: Batch) -> int:
    """How many of the items of a batch are different."""
    return len({item_key(x, index) for index in range(count_items(name, x))})


class _Items(NamedTuple):
    left: Batch
    right: Batch


def _different_items(x1: Batch, x2: Batch, same_kind: bool) -> _Items:
    if not same_kind:
        return _Items(take(x1, _first_of_each(x1, "x1")), take(x2, _first_of_each(x2, "x2")))
    both = combine(lambda a, b: torch.stack([a[: 8 * GRID], b[: 8 * GRID]], 1).flatten(0, 1), x1, x2)
    items = take(both, _first_of_each(both, "x1 and x2"))
    return _Items(items, items)


def _first_of_each(x: Batch, name: str) -> list[int]:
    """The indices of up to 16 different items."""
    places: dict[bytes, int] = {}
    for index in range(count_items(name, x)):
        places.setdefault(item_key(x, index), index)
        if len(places) == GRID:
            break
    if len(places) < 2:
        raise ValueError(f"{name} must hold at least two different items, got {describe(x)}: all are equal")
    return list(places.values())


def _plain(x: Tensor) -> Tensor:
    return x.clone() if x.is_inference() else x.detach()
