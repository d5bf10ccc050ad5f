"""Random pairs of labeled items, positive and negative."""

import operator
from collections.abc import Callable
from random import Random
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pairfuse._checks import check_int, check_share, unknown_name
from pairfuse.data.groups import group_by_identity, own_random
from pairfuse.items.reading import Items, count_readable, read_item

Draw = Literal["identities", "items"]


class LabelledPairs(Dataset[tuple[Any, Any, Tensor]]):
    """Random pairs of labeled items: `(x1, x2, y)`, where `y` is 1.0 if both items have the same label, else 0.0.

    For given labels and options, pair i depends on `(seed, i)` alone. It is drawn with a generator of its own: no
    global random state is read or changed, and DataLoader workers and processes agree. A pair is drawn and its two
    items are read when you ask for it, so `length` costs nothing. For new pairs in every epoch, choose a `length` of
    many epochs.

    Items with the label -1 are unlabeled. They are in no pair, because they may be the same as any other item.
    Identities with one item are in negative pairs only.

    Args:
        items: N items: a batch (a tensor, or nested mappings, tuples or lists of tensors), or a data set with
            `__getitem__` and `__len__` that gives items or `(item, label)`. The labels that a data set gives are not
            used.
        labels: The label of each item, N integers: a tensor, an array or a list.
        length: How many pairs, at least 0.
        same: Probability of a positive pair, in [0, 1].
        draw: How often each identity is drawn. `"identities"`: all equally often, however many items they have.
            `"items"`: as they come. A positive pair starts with an item that is drawn from all items, so an identity
            with twice as many items is drawn twice as often; all negative pairs of items are equally likely.
        exclude_self: Never pair an item with itself. With `False` the two items of a positive pair are drawn
            independently, so that identities with one item are in positive pairs too. This makes sense for a random
            `transform`, which gives two views of one item.
        seed: Two data sets of one seed, with the same labels and options, hold the same pairs.
        transform: Called on each item by itself. A random transform draws from its own source of randomness.

    Shape:
        - Item: `(x1, x2, y)`; `x1` and `x2` as `items` and `transform` give them, `y` of shape `()`, float32

    Raises:
        IndexError: The index is outside `[-length, length)`.
        TypeError: The labels are not integers, a number is not one, or the items cannot be read in any order.
        ValueError: The number of labels differs from that of the items; `same` is outside [0, 1]; there are negative
            pairs to draw and only one identity, or positive pairs and no identity with two items; `draw` is unknown.

    Examples:
        >>> import pairfuse as pf
        >>> items, labels = torch.randn(5, 3), torch.tensor([7, 7, 7, 2, 2])
        >>> x1, x2, y = pf.data.LabelledPairs(items, labels, length=100)[0]
        >>> x1.shape, x2.shape, y.shape
        (torch.Size([3]), torch.Size([3]), torch.Size([]))
    """

    def __init__(
        self,
        items: Items,
        labels: Any,
        *,
        length: int,
        same: float = 0.5,
        draw: Draw = "identities",
        exclude_self: bool = True,
        seed: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if draw not in get_args(Draw):
            raise unknown_name("draw", draw, get_args(Draw))
        self.length = check_int("LabelledPairs", "length", length, least=0)
        self.same = check_share("LabelledPairs", "same", same)
        self.seed = check_int("LabelledPairs", "seed", seed, least=None)
        self.draw, self.exclude_self, self.items, self.transform = draw, exclude_self, items, transform
        self._groups = group_by_identity("LabelledPairs", labels, count_readable("items", items))

        sizes, total = self._groups.sizes, len(self._groups.order)
        if self.same < 1 and len(sizes) == 1:
            raise ValueError("LabelledPairs expects at least 2 identities, got 1: there is no negative pair")
        if self.same > 0 and exclude_self and sizes.max() == 1:
            raise ValueError(
                f"LabelledPairs expects an identity with at least 2 items, got {total} identities with one item each: "
                "there is no positive pair"
            )
        # Cumulated weights of the identities, in integers: of a positive pair, and of the first item of a negative one.
        evenly = draw == "identities"
        paired = sizes >= (2 if exclude_self else 1)
        self._positive = (paired * (1 if evenly else sizes)).cumsum(0)
        self._negative = (torch.ones_like(sizes) if evenly else sizes * (total - sizes)).cumsum(0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, Any, Tensor]:
        index = operator.index(index)
        if not -self.length <= index < self.length:
            raise IndexError(f"LabelledPairs has {self.length} pairs, got index {index}")
        random = own_random(self.seed, index % self.length)
        same = random.random() < self.same
        places = self._draw_positive(random) if same else self._draw_negative(random)
        x1, x2 = (self._item(int(self._groups.order[place])) for place in places)
        return x1, x2, torch.tensor(float(same))

    def _draw_positive(self, random: Random) -> tuple[int, int]:
        start, size = self._draw_identity(random, self._positive)[1:]
        first = random.randrange(size)
        second = random.randrange(size - 1) if self.exclude_self else random.randrange(size)
        return start + first, start + second + (self.exclude_self and second >= first)

    def _draw_negative(self, random: Random) -> tuple[int, int]:
        identity, start, size = self._draw_identity(random, self._negative)
        first = start + random.randrange(size)
        if self.draw == "items":  # any item before or after those of the first identity
            second = random.randrange(len(self._groups.order) - size)
            return first, second + size * (second >= start)
        other = random.randrange(len(self._groups.sizes) - 1)
        other += other >= identity
        return first, int(self._groups.starts[other]) + random.randrange(int(self._groups.sizes[other]))

    def _draw_identity(self, random: Random, cumulated: Tensor) -> tuple[int, int, int]:
        """Return an identity, and the start and size of its items."""
        identity = int(torch.searchsorted(cumulated, random.randrange(int(cumulated[-1])), right=True))
        return identity, int(self._groups.starts[identity]), int(self._groups.sizes[identity])

    def _item(self, index: int) -> Any:
        item = read_item(self.items, index)
        return item if self.transform is None else self.transform(item)

    def __repr__(self) -> str:
        return (
            f"LabelledPairs({len(self._groups.order)} labeled items of {len(self._groups.sizes)} identities, "
            f"length={self.length}, same={self.same}, draw={self.draw!r}, exclude_self={self.exclude_self}, "
            f"seed={self.seed}, transform={self.transform!r})"
        )
