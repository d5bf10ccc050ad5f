"""Which pairs of labeled items are positive, which negative, and which do not count."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Which of the pairs of N left and M right items are positive, and which count.

    Attributes:
        labels: `(N,)`.
        labels2: `(M,)`.
        one_set: If True, pairs (i, i) do not count.
        order: The right items sorted by label, `(M,)`.
        starts: Where the right items of the label of each left item begin in that order, `(N,)`.
        same: How many there are, with the item itself, `(N,)`.
    """

    labels: Tensor
    labels2: Tensor
    one_set: bool
    order: Tensor
    starts: Tensor
    same: Tensor

    @property
    def positives(self) -> Tensor:
        """The number of positive partners of each left item, `(N,)`."""
        return self.same - int(self.one_set)

    @property
    def negatives(self) -> Tensor:
        """The number of negative partners of each left item, `(N,)`."""
        return len(self.labels2) - self.same

    def is_same(self, rows: slice) -> Tensor:
        """Return where labels are equal, the item itself included: `(n, M)`."""
        return self.labels[rows, None] == self.labels2

    def is_self(self, rows: slice) -> Tensor | None:
        """Return where an item meets itself, `(n, M)`, if that happens."""
        if not self.one_set:
            return None
        items, others = torch.arange(rows.start, rows.stop), torch.arange(len(self.labels2))
        return items.to(self.labels)[:, None] == others.to(self.labels)

    def partners(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the columns of the positive partners, `(n, P)`, and which of these entries are meant."""
        same = self.same[rows]
        most = int(same.max()) if len(same) else 0
        ranks = torch.arange(most, device=self.labels.device)
        meant = ranks < same[:, None]
        columns = self.order[(self.starts[rows, None] + ranks).clamp(max=len(self.order) - 1)]
        if self.one_set:
            meant &= columns != torch.arange(rows.start, rows.stop).to(columns)[:, None]
        return columns, meant


def make_pairs(labels: Tensor, labels2: Tensor, *, one_set: bool) -> Pairs:
    """Sort the labels of both sides into pairs."""
    ordered, order = labels2.sort(stable=True)
    starts = torch.searchsorted(ordered, labels)
    return Pairs(labels, labels2, one_set, order, starts, torch.searchsorted(ordered, labels, right=True) - starts)


def check_pairs(pairs: Pairs) -> None:
    """Raise unless there are positive pairs and negative ones, and an anchor with both."""
    positives, negatives = pairs.positives > 0, pairs.negatives > 0
    has_positives, has_negatives, has_both = torch.stack(
        [positives.any(), negatives.any(), (positives & negatives).any()]
    ).tolist()
    if has_positives and has_both:
        return
    items, identities = len(pairs.labels), len(set(pairs.labels.tolist()))
    if not has_positives:
        other = "" if pairs.one_set else f" and {len(pairs.labels2)} others, of which none has the label of a left one"
        raise ValueError(
            f"AllPairsLoss expects a positive pair, two items with one label, got {items} labeled items of "
            f"{identities} identities{other}: build batches with several items of each identity"
        )
    came = "several identities, but no item with both a positive and a negative partner"
    if not has_negatives:
        came = f"{items} labeled items of one identity"
    raise ValueError(f"AllPairsLoss expects items of at least two identities, got {came}")
