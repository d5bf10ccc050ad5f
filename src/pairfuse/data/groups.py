"""The labeled items, sorted by identity: three arrays instead of a list for each identity."""

from random import Random
from typing import Any, NamedTuple

from torch import Tensor

from pairfuse._checks import UNLABELED, check_labels


class Groups(NamedTuple):
    """The items of each identity. Those of identity k are `order[starts[k] : starts[k] + sizes[k]]`.

    Attributes:
        order: Positions of the labeled items, sorted by label, `(M,)`. Unlabeled items are left out.
        starts: Where each identity starts in `order`, `(K,)`.
        sizes: Number of items of each identity, `(K,)`.
    """

    order: Tensor
    starts: Tensor
    sizes: Tensor


def group_by_identity(owner: str, labels: Any, items: int | None = None) -> Groups:
    """Check `labels`, one for each of `items` items if their number is known, and group the items by label."""
    labels = check_labels(owner, labels, items)
    labeled = (labels != UNLABELED).nonzero()[:, 0]
    values, places = labels[labeled].sort(stable=True)
    sizes = values.unique_consecutive(return_counts=True)[1]
    if len(sizes) == 0:
        raise ValueError(f"{owner} expects labels of at least one item, got {len(labels)} labels of -1 (unlabeled)")
    return Groups(labeled[places], sizes.cumsum(0) - sizes, sizes)


def own_random(seed: int, index: int) -> Random:
    """Return a generator that depends on `(seed, index)` alone; neighbors have nothing in common."""
    return Random(f"{seed}/{index}")  # a string seed is hashed
