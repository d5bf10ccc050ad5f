"""Identities that are held out: which they are, pairs of their items, and how well scores tell these apart."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from pairfuse._checks import UNLABELED
from pairfuse.solving.sums import pairs_within

ITEMS = 1024  # of a fold whose pairs are scored
ITEMS_EACH = 128  # of an identity
PAIRS = 10_000  # of each kind and fold
LEAST_DIFFERENT = 4000  # pairs, if there are fewer same ones
NUMBERS = 2**23  # features of the pairs of each kind and fold


def fold_of_items(labels: Tensor, folds: int, seed: int) -> Tensor | None:
    """Return the fold of each item, -1 for unlabeled ones; None if there are too few identities to hold some out.

    Each fold has at least two identities, one of them with two items.
    """
    labeled = labels != UNLABELED
    _, identity, sizes = torch.unique(labels[labeled], return_inverse=True, return_counts=True)
    paired = int((sizes > 1).sum())
    folds = min(folds, paired, len(sizes) // 2)
    if folds < 2:
        return None
    order = torch.randperm(len(sizes), generator=Generator().manual_seed(seed))
    order = order[(sizes[order] == 1).int().argsort(stable=True)]  # those with pairs first, so that each fold has some
    fold = torch.empty_like(sizes)
    fold[order] = torch.arange(len(sizes)) % folds
    found = torch.full_like(labels, -1)
    found[labeled] = fold[identity]
    return found


class HeldOut(NamedTuple):
    """Pairs of held-out items.

    Attributes:
        items: Positions of the items among all `(n,)`.
        left: Places of the left items of the pairs in `items` `(P,)`, same pairs first.
        right: Places of the right items `(P,)`.
        same: Number of same pairs.
        units: The identity of each left item, numbered from 0 `(P,)`.
    """

    items: Tensor
    left: Tensor
    right: Tensor
    same: int
    units: Tensor


def draw_held_out(labels: Tensor, inside: Tensor, generator: Generator, features: int) -> HeldOut:
    """Draw pairs of some of the items: all same pairs or as many as allowed, and about as many different ones.

    Args:
        labels: The label of each item `(N,)`.
        inside: True for the items that may be drawn `(N,)`. Two identities at least, one of them with two items.
        generator: Draws them.
        features: Number of features, which limits the number of pairs.
    """
    pairs = max(1000, min(PAIRS, NUMBERS // features))
    positions = inside.nonzero()[:, 0]
    _, identity, sizes = torch.unique(labels[positions], return_inverse=True, return_counts=True)
    mixed = torch.randperm(len(positions), generator=generator)
    positions, identity = positions[mixed], identity[mixed]
    rank = torch.randperm(len(sizes), generator=generator)
    rank = rank + len(sizes) * (sizes == 1)  # identities without a pair last
    order = rank[identity].argsort(stable=True)
    identity, positions = identity[order], positions[order]
    run_starts = torch.searchsorted(rank[identity], rank[identity])
    few = torch.arange(len(order)) - run_starts < ITEMS_EACH
    identity, positions = identity[few], positions[few]
    numbers, kept = torch.unique_consecutive(identity, return_inverse=True, return_counts=True)[1:]
    most = max(2, int((kept.cumsum(0) <= ITEMS).sum()))  # whole identities
    chosen = numbers < most
    numbers, positions, kept = numbers[chosen], positions[chosen], kept[:most]
    i, j = pairs_within(kept)
    if len(i) > pairs:
        some = torch.randperm(len(i), generator=generator)[:pairs]
        i, j = i[some], j[some]
    k, m = draw_different(kept, min(pairs, max(len(i), LEAST_DIFFERENT)), generator)
    left = torch.cat([i, k])
    return HeldOut(positions, left, torch.cat([j, m]), len(i), numbers[left])


def draw_different(sizes: Tensor, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of items of two groups, all equally likely, for items sorted by group: left and right places."""
    total = int(sizes.sum())
    others = (total - sizes).repeat_interleave(sizes)
    ends = others.cumsum(0)
    if int(ends[-1]) == 0:
        return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    drawn = torch.randint(int(ends[-1]), (count,), generator=generator)
    left = torch.searchsorted(ends, drawn, right=True)
    right = drawn - (ends[left] - others[left])
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)[left]
    return left, right + (right >= starts) * sizes.repeat_interleave(sizes)[left]


class Placements:
    """How often same pairs score above different ones, with sums for each identity, for several scores at once."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []  # of same and of different pairs of each identity `(C, 2, L)`
        self._counts: list[Tensor] = []  # `(C, 2)`

    def add(self, scores: Tensor, held: HeldOut) -> None:
        """Add the scores `(P, L)` of the pairs of a fold."""
        same, different = scores[: held.same].T.contiguous(), scores[held.same :].T.contiguous()
        sides = []
        for x, others, above in ((same, different, True), (different, same, False)):
            ordered = others.sort(1).values
            below = (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)) / 2
            share = below / others.shape[1]
            sides.append(share if above else 1 - share)
        units = int(held.units.max()) + 1
        sums, counts = scores.new_zeros(units, 2, scores.shape[1]), scores.new_zeros(units, 2)
        at = held.units.to(scores.device)
        for kind, (share, where) in enumerate(zip(sides, (at[: held.same], at[held.same :]), strict=True)):
            sums[:, kind].index_add_(0, where, share.T.to(sums))
            counts[:, kind].index_add_(0, where, torch.ones_like(where, dtype=counts.dtype))
        self._sums.append(sums)
        self._counts.append(counts)

    def auc(self) -> Tensor:
        """Return the area under the ROC curve of each score `(L,)`."""
        return torch.cat(self._sums)[:, 0].sum(0) / torch.cat(self._counts)[:, 0].sum()

    def error_of_gain(self, over: int) -> Tensor:
        """Return the standard error of the difference of each area to that of one score `(L,)`, over identities."""
        sums, counts = torch.cat(self._sums), torch.cat(self._counts)
        gains = sums - sums[..., over : over + 1]
        variance = torch.zeros_like(gains[0, 0])
        for kind in (0, 1):
            some = counts[:, kind] > 0
            total, units = counts[some, kind].sum(), int(some.sum())
            mean = gains[some, kind].sum(0) / total
            rest = gains[some, kind] - mean * counts[some, kind, None]
            variance += rest.square().sum(0) / total**2 * units / max(1, units - 1)
        return variance.sqrt()
