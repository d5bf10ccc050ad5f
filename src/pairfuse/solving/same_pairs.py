"""Sums over the pairs of one identity: pair by pair if it is small, from Gram matrices if it is large."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pairfuse._checks import UNLABELED
from pairfuse.solving.sums import BLOCK, Sums, pairs_within, whole_batches
from pairfuse.solving.terms import Side, TermPlan

CHUNK = 2048  # rows at a time
TILE = 2**18  # numbers of the Gram matrices of some identities, so that they fit the cache of a CPU
OVERHEAD = 24  # items whose products take as long as adding up the Gram matrix of an identity


class LabeledSide:
    """Labeled embeddings, sorted by the size of their identity. Rows are converted to float64 when they are needed.

    Args:
        embeddings: `(N, D)`.
        labels: `(N,)`; -1 means unlabeled and is left out.
        scale: The rows are multiplied by it.

    Attributes:
        order: Positions of the labeled items, sorted `(M,)`.
        values: The identities, in this order `(C,)`.
        sizes: Number of items of each identity, increasing `(C,)`.
        starts: Where each identity starts in `order` `(C,)`.
    """

    def __init__(self, embeddings: Tensor, labels: Tensor, scale: float | Tensor = 1.0) -> None:
        labeled = (labels != UNLABELED).nonzero()[:, 0]
        values, identity, sizes = torch.unique(labels[labeled], return_inverse=True, return_counts=True)
        by_size = sizes.argsort(stable=True)
        rank = torch.empty_like(by_size)
        rank[by_size] = torch.arange(len(by_size))
        self.embeddings, self.scale = embeddings.detach(), float(scale)
        self.order = labeled[rank[identity].argsort(stable=True)].to(embeddings.device)
        self.values, self.sizes = values[by_size], sizes[by_size]
        self.starts = self.sizes.cumsum(0) - self.sizes

    def __len__(self) -> int:
        """Return the number of labeled items."""
        return len(self.order)

    def rows(self, places: Tensor | slice) -> Tensor:
        """Return the embeddings at some places of `order`, in float64 and scaled."""
        at = places if isinstance(places, slice) else places.to(self.order.device)
        rows = self.embeddings[self.order[at]].double()
        return rows if self.scale == 1 else rows.mul_(self.scale)

    def some(self, count: int = 1024) -> Tensor:
        """Return some of the rows."""
        return self.rows(slice(None, None, max(1, len(self) // count)))


def sums_of_side(plan: TermPlan, side: LabeledSide, name: Side) -> Sums:
    """Return the sums of the columns of all items."""
    sums = Sums.zero(plan.width(name), plan.mix)
    for start in range(0, len(side), CHUNK):
        sums.add(plan.columns(side.rows(slice(start, start + CHUNK)), name))
    return sums.mirror()


def sums_of_set(plan: TermPlan, side: LabeledSide) -> tuple[Sums, Sums, Sums, Sums]:
    """Return the sums of the left and right columns, and over the pairs of one identity and of an item with itself."""
    left, right = (Sums.zero(plan.width(name), plan.mix) for name in ("left", "right"))
    same, own, own_of_large = (Sums.zero(plan.features, plan.mix) for _ in range(3))
    halved = plan.fusion.symmetry == "symmetric"
    smalls = int(torch.searchsorted(side.sizes, largest_small(plan, halved), right=True))
    for is_small, first, sizes in ((True, 0, side.sizes[:smalls]), (False, smalls, side.sizes[smalls:])):
        for start, stop in whole_batches(sizes, CHUNK):
            group, place = sizes[start:stop], int(side.starts[first + start])
            items = int(group.sum())
            for begin in range(place, place + items, CHUNK):
                rows = side.rows(slice(begin, min(begin + CHUNK, place + items)))
                left.add(plan.columns(rows, "left"))
                if not plan.twins:
                    right.add(plan.columns(rows, "right"))
                (own if is_small else own_of_large).add(plan.fusion(rows, rows))
            if is_small:  # then its items are in one chunk
                i, j = (x.to(rows.device) for x in pairs_within(group, ordered=not halved))
                for some in torch.split(torch.arange(len(i)), CHUNK) if len(i) else ():
                    same.add(plan.fusion(rows[i[some]], rows[j[some]]), 2 if halved else 1)
    large = torch.arange(smalls, len(side.sizes))
    crossed = _crossed(plan, side, large, None if plan.twins else side, large)
    for sums in (left, right, same, own, own_of_large):
        sums.mirror()
    return left, left if plan.twins else right, same.plus(crossed).plus(own_of_large, -1), own.plus(own_of_large)


def same_of_two_sets(plan: TermPlan, left: LabeledSide, right: LabeledSide) -> Sums:
    """Return the sums over the pairs of a left and a right item of one identity."""
    values, order = right.values.sort()
    at = torch.searchsorted(values, left.values).clamp_max(max(0, len(values) - 1))
    both = values[at] == left.values if len(values) else torch.zeros_like(at, dtype=torch.bool)
    return _crossed(plan, left, both.nonzero()[:, 0], right, order[at[both]])


def largest_small(plan: TermPlan, halved: bool) -> int:
    """Return the largest identity whose pairs are cheaper one by one than by a Gram matrix."""
    products = plan.mix.shape[1] ** 2 * (1 if plan.twins else 2)
    pair = plan.features**2 * (0.5 if halved else 1.0)
    size = 1
    while size < 64 and (size + 1) * size * pair <= (size + 1 + OVERHEAD) * products:
        size += 1
    return size


def _crossed(plan: TermPlan, left: LabeledSide, ids: Tensor, right: LabeledSide | None, others: Tensor) -> Sums:
    """Return the sums over all pairs of a left and a right item of one identity, from Gram matrices.

    Args:
        plan: The plan.
        left: The left items.
        ids: Places of identities in `left`.
        right: The right items; None stands for the left ones.
        others: Places of the same identities in `right`.
    """
    products = plan.mix.shape[1]
    sums = Sums.zero(products, plan.mix)
    by_size = (left.sizes[ids] + (0 if right is None else right.sizes[others])).argsort()
    for some in torch.split(by_size, max(1, TILE // (products * min(products, BLOCK)))) if len(ids) else ():
        a = _Grams(plan, left, ids[some], "left")
        b = a if right is None else _Grams(plan, right, others[some], "right")
        sums.number.add_((a.sizes * b.sizes).sum())
        sums.rows.add_((a.sums() * b.sums()).sum(0))
        for start in range(0, products, BLOCK):
            lefts = a.block(start)
            rights = lefts if right is None else b.block(start)
            sums.gram[start : start + BLOCK, start:] += lefts.mul_(rights).sum(0)
    sums.mirror()
    return Sums(sums.number, plan.mix @ sums.rows, plan.mix @ sums.gram @ plan.mix.mT)


class _Grams:
    """The Gram matrices of the products' columns of some identities, block by block."""

    def __init__(self, plan: TermPlan, side: LabeledSide, ids: Tensor, name: Side) -> None:
        self.sizes = side.sizes[ids].to(plan.mix)
        sizes, starts = side.sizes[ids], side.starts[ids]
        places = plan.left_places if name == "left" else plan.right_places
        longest = int(sizes.max())
        step = max(1, CHUNK // len(ids))

        def read(begin: int) -> Tensor:
            return _padded(plan, side, starts, sizes, begin, min(begin + step, longest), name, places)

        self._read = read
        self._begins = range(0, longest, step)
        self._first = read(0) if len(self._begins) == 1 else None

    def sums(self) -> Tensor:
        """Return the sums of the columns `(c, K)`."""
        return torch.stack([x.sum(1) for x in self._chunks()]).sum(0)

    def block(self, start: int) -> Tensor:
        """Return some rows of the Gram matrices, from the diagonal on `(c, BLOCK, K - start)`."""
        grams = [x[..., start : start + BLOCK].mT @ x[..., start:] for x in self._chunks()]
        return grams[0] if len(grams) == 1 else torch.stack(grams).sum(0)

    def _chunks(self) -> Iterator[Tensor]:
        """Yield the columns `(c, n, K)`, where n items have no more than `CHUNK` rows."""
        if self._first is not None:
            return iter([self._first])
        return map(self._read, self._begins)


def _padded(
    plan: TermPlan, side: LabeledSide, starts: Tensor, sizes: Tensor, begin: int, end: int, name: Side, places: Tensor
) -> Tensor:
    """Return the columns of the products of the items from `begin` to `end` of some identities, 0 where none is."""
    ranks = torch.arange(begin, end)
    inside = ranks < sizes[:, None]  # (c, n)
    rows = side.rows(torch.where(inside, starts[:, None] + ranks, 0).flatten())
    columns = plan.columns(rows, name)
    if columns.shape[1] != len(places) or bool((places.diff() != 1).any()):
        columns = columns[:, places.to(rows.device)]
    if not bool(inside.all()):
        columns = columns * inside.flatten()[:, None].to(columns)
    return columns.view(*inside.shape, -1)
