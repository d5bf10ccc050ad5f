"""Splits that share no identity, and batches of several items of several identities."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, overload

import torch
from torch import Generator, Tensor, distributed
from torch.utils.data import Sampler

from pairfuse._checks import UNLABELED, check_int, check_labels, check_share, require_package
from pairfuse.data.groups import group_by_identity, own_random


@overload
def split_identities(labels: Any, *, test_size: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]: ...


@overload
def split_identities(
    labels: Any, *, test_size: float = 0.3, validation_size: float, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]: ...


def split_identities(
    labels: Any, *, test_size: float = 0.3, validation_size: float | None = None, seed: int = 0
) -> tuple[Tensor, ...]:
    """Split labeled items so that no identity is on both sides, with `sklearn.model_selection.GroupShuffleSplit`.

    Unlabeled items, with the label -1, are on neither side. Identities with one item are split like all others, because
    they make negative pairs.

    Args:
        labels: The label of each item, N integers.
        test_size: Share of the *identities* that go to the test side, rounded up. The share of the items differs if the
            identities differ in size.
        validation_size: Share of all identities for a third part, on which you choose a threshold. By default there is
            none. The test side is the same with and without it.
        seed: The same labels, sizes and seed give the same split.

    Returns:
        The positions of the items for training and of those for the test, sorted, two int64 tensors. With
            `validation_size` three: training, validation, test.

    Raises:
        ImportError: scikit-learn is not installed; it is in the extra `data`.
        TypeError: The labels are not integers, or a number is not one.
        ValueError: A side would have no identity, or the labels are empty or have another shape than `(N,)`.

    Examples:
        >>> import pairfuse as pf
        >>> labels = torch.tensor([3, 3, 5, 5, 8, -1])
        >>> train, test = pf.data.split_identities(labels, test_size=0.5, seed=1)
        >>> labels[train].tolist(), labels[test].tolist()
        ([5, 5], [3, 3, 8])
        >>> parts = pf.data.split_identities(labels, test_size=0.3, validation_size=0.3, seed=1)
        >>> [labels[part].tolist() for part in parts]
        [[8], [5, 5], [3, 3]]
    """
    shares = {"test_size": check_share("split_identities", "test_size", test_size)}
    if validation_size is not None:
        shares["validation_size"] = check_share("split_identities", "validation_size", validation_size)
    splitters = require_package("sklearn.model_selection", "data")
    rest, identities, count = _labeled("split_identities", labels)
    random_state, left, parts = _numpy_seed("split_identities", seed), count, []
    for name, share in shares.items():
        held_back = math.ceil(round(share * count, 9))  # 0.07 * 100 is slightly more than 7
        if not 0 < held_back < left:
            side = "training" if held_back else "validation" if name == "validation_size" else "the test"
            sizes = " and ".join(f"{name}={share}" for name, share in shares.items())
            raise ValueError(f"split_identities: {sizes} of {count} identities leaves none for {side}")
        splitter = splitters.GroupShuffleSplit(1, test_size=held_back, random_state=random_state)
        ((others, held),) = splitter.split(identities, groups=identities)
        parts.append(rest[held])
        rest, identities, left = rest[others], identities[others], left - held_back
    return (rest, *reversed(parts))


def identity_folds(labels: Any, *, folds: int = 5, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Split labeled items into k folds that share no identity, with `sklearn.model_selection.GroupKFold`.

    Each identity is in the test side of exactly one fold. The folds differ by at most one in the number of identities.
    Unlabeled items, with the label -1, are in no fold.

    Args:
        labels: The label of each item, N integers.
        folds: Number of folds k, at least 2.
        seed: The same labels, number and seed give the same folds.

    Returns:
        For each fold the positions of the items for training and of those for the test, sorted, two int64 tensors.

    Raises:
        ImportError: scikit-learn is not installed; it is in the extra `data`.
        TypeError: The labels are not integers, or a number is not one.
        ValueError: There are fewer identities than folds, or the labels are empty or have another shape than `(N,)`.

    Examples:
        >>> import pairfuse as pf
        >>> labels = torch.tensor([3, 3, 5, 5, 8, -1])
        >>> [labels[test].tolist() for train, test in pf.data.identity_folds(labels, folds=3)]
        [[8], [5, 5], [3, 3]]
    """
    folds = check_int("identity_folds", "folds", folds, least=2)
    splitters = require_package("sklearn.model_selection", "data")
    labeled, identities, count = _labeled("identity_folds", labels)
    if folds > count:
        raise ValueError(f"identity_folds expects folds to be at most {count} (the number of identities), got {folds}")
    splitter = splitters.GroupKFold(folds, shuffle=True, random_state=_numpy_seed("identity_folds", seed))
    return [(labeled[train], labeled[test]) for train, test in splitter.split(identities, groups=identities)]


def _labeled(owner: str, labels: Any) -> tuple[Tensor, Any, int]:
    """Return the positions of the labeled items, their labels as an array, and the number of identities, at least 2."""
    labels = check_labels(owner, labels)
    labeled = (labels != UNLABELED).nonzero()[:, 0]
    count = len(torch.unique(labels[labeled]))
    if count < 2:
        raise ValueError(f"{owner} expects at least 2 identities, got {count}")
    return labeled, labels[labeled].numpy(), count


def _numpy_seed(owner: str, seed: int) -> int:
    return check_int(owner, "seed", seed, least=None) % 2**32  # the range that NumPy takes


class IdentityBatchSampler(Sampler[list[int]]):
    """Batches of several items of several identities: the `batch_sampler` of a `DataLoader`.

    Each batch has exactly `identities` identities, the last one too. An identity contributes `items` different items,
    or all of its items if it has fewer. No item is in a batch twice, and every batch has positive and negative pairs.

    An epoch has every labeled item at least once. An identity with n items is in at least `ceil(n / items)` batches.
    Items come up again only where this is needed to fill a batch:

    - The size of an identity is not a multiple of `items`.
    - The number of batches is rounded up, also to a multiple of the number of processes.
    - One identity needs more batches than the others can fill.
    - There are so many identities with one item that others must come again to give each batch a positive pair.

    Items with the label -1 are unlabeled and left out.

    Epoch e depends on `(seed, e)` alone, for given labels, arguments and number of processes. Call `set_epoch` before
    each epoch, as for a `DistributedSampler`; otherwise all epochs are the same.

    In several processes, each rank gets its share of the batches: all ranks the same number, and together every item.
    In one step, several ranks may have items of the same identity, or an item that comes up again.

    Args:
        labels: The label of each item, N integers.
        identities: Number of identities in a batch, at least 2.
        items: Number of items of each identity in a batch, at least 2.
        seed: Samplers of one seed give the same batches.
        rank: Number of this process, if not that of `torch.distributed`. Needs `world_size`.
        world_size: Number of processes. By default that of `torch.distributed`, or 1 without a process group.

    Raises:
        TypeError: The labels are not integers, or a number is not one.
        ValueError: There are fewer than `identities` identities, no identity has two items, `items` or `identities` is
            below 2, or only one of `rank` and `world_size` is given.

    Examples:
        >>> import pairfuse as pf
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 2])
        >>> sampler = pf.data.IdentityBatchSampler(labels, identities=2, items=2)
        >>> sorted(labels[batch].tolist() for batch in sampler)
        [[0, 0, 1, 1], [0, 0, 2]]
    """

    def __init__(
        self,
        labels: Any,
        *,
        identities: int = 8,
        items: int = 4,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        owner = "IdentityBatchSampler"
        self.identities = check_int(owner, "identities", identities)
        self.items = check_int(owner, "items", items)
        self.seed = check_int(owner, "seed", seed, least=None)
        self.epoch = 0
        for argument, missing in (("identities", "negative"), ("items", "positive")):
            if getattr(self, argument) == 1:
                raise ValueError(f"{owner} expects {argument} to be at least 2, got 1: there is no {missing} pair")
        if (rank is None) != (world_size is None):
            raise ValueError(f"{owner} expects rank and world_size together, got rank={rank}, world_size={world_size}")
        self._shard: tuple[int, int] | None = None
        if rank is not None:
            self._shard = (check_int(owner, "rank", rank, least=0), check_int(owner, "world_size", world_size))
            if rank >= self._shard[1]:
                raise ValueError(f"{owner} expects rank to be below world_size={world_size}, got {rank}")

        self._groups = group_by_identity(owner, labels)
        sizes = self._groups.sizes
        if len(sizes) == 1:
            raise ValueError(f"{owner} expects at least 2 identities, got 1: there is no negative pair")
        if self.identities > len(sizes):
            raise ValueError(
                f"{owner} expects identities to be at most {len(sizes)} (the identities in labels), got {identities}"
            )
        if sizes.max() == 1:
            raise ValueError(
                f"{owner} expects an identity with at least 2 items, got {len(sizes)} identities with one item each: "
                "there is no positive pair"
            )
        self._visits = (sizes + self.items - 1) // self.items  # batches in which an identity must be

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next, 0 at the start. Call it with the same number in all processes."""
        self.epoch = check_int("IdentityBatchSampler", "epoch", epoch, least=0)

    def __len__(self) -> int:
        """Return the number of batches of an epoch, for this rank."""
        world_size = self._rank_and_world_size()[1]
        return self._count_batches(world_size) // world_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the positions of the items of each batch."""
        rank, world_size = self._rank_and_world_size()
        generator = Generator().manual_seed(own_random(self.seed, self.epoch).getrandbits(63))
        order = self._shuffle_items(generator)
        identities, visits = self._schedule(generator, self._count_batches(world_size))
        places = torch.arange(self.items)
        for batch in range(rank, len(identities), world_size):
            chosen = identities[batch]
            sizes = self._groups.sizes[chosen, None]
            count = sizes.clamp(max=self.items)
            # Visit by visit an identity goes around its items: no item is left out, and none is twice in a visit.
            turns = (visits[batch, :, None] * count + places) % sizes
            yield order[self._groups.starts[chosen, None] + turns][places < count].tolist()

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self._shard is not None:
            return self._shard
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def _count_batches(self, world_size: int) -> int:
        """Return the number of batches of all ranks: the least that holds all visits, as `_schedule` arranges them."""
        visits, alone = self._visits, int((self._groups.sizes == 1).sum())
        least = max(
            math.ceil(int(visits.sum()) / self.identities),
            int(visits.max()),  # an identity is in a batch once
            math.ceil(alone / (self.identities - 1)),  # one place of each batch is for an identity with a positive pair
        )
        return math.ceil(least / world_size) * world_size

    def _shuffle_items(self, generator: Generator) -> Tensor:
        """Return `order` with the items of each identity shuffled among themselves."""
        shuffled = torch.randperm(len(self._groups.order), generator=generator)
        identity = torch.repeat_interleave(self._groups.sizes)
        return self._groups.order[shuffled[identity[shuffled].argsort(stable=True)]]

    def _schedule(self, generator: Generator, batches: int) -> tuple[Tensor, Tensor]:
        """Return the identities of each batch, and which visit of each identity it is, both `(batches, identities)`.

        All visits stand in a line, identity by identity. The line is cut into rows with one visit for each batch, and
        each row is shuffled. An identity that goes on in the next row gets other batches there, which exist because it
        has at most one visit for each batch. Identities with positive pairs come first and fill at least one row.
        """
        counts = self._fill(generator, batches)
        names = torch.randperm(len(counts), generator=generator)
        names = names[(self._groups.sizes[names] == 1).int().argsort(stable=True)]
        line = names.repeat_interleave(counts[names])
        first = (counts[names].cumsum(0) - counts[names]).repeat_interleave(counts[names])
        visit = torch.arange(len(line)) - first

        identities, visits = (torch.empty(batches, self.identities, dtype=torch.long) for _ in range(2))
        taken = line.new_empty(0)
        for row in range(self.identities):
            part = slice(row * batches, (row + 1) * batches)
            goes_on = int((line[part] == line[part][0]).sum()) if len(taken) else 0
            where = _permutation(batches, goes_on, taken, generator)
            identities[where, row], visits[where, row] = line[part], visit[part]
            follows = part.stop < len(line) and line[part.stop] == line[part.stop - 1]
            taken = where[line[part] == line[part][-1]] if follows else line.new_empty(0)
        return identities, visits

    def _fill(self, generator: Generator, batches: int) -> Tensor:
        """Return the visits of each identity, with more of them until all places of all batches are filled."""
        paired = self._groups.sizes > 1
        room = batches - self._visits
        missing = max(0, batches - int(self._visits[paired].sum()))
        counts = self._visits + _spread(missing, room * paired, generator)
        return counts + _spread(batches * self.identities - int(counts.sum()), batches - counts, generator)


def _spread(total: int, room: Tensor, generator: Generator) -> Tensor:
    """Spread a total as evenly as the room of each identity allows. Which get one more than others is random."""
    level = bisect_right(range(1, int(room.max()) + 1), total, key=lambda level: int(room.clamp(max=level).sum()))
    spread = room.clamp(max=level)
    left = (room > level).nonzero()[:, 0]
    one_more = left[torch.randperm(len(left), generator=generator)[: total - int(spread.sum())]]
    spread[one_more] += 1
    return spread


def _permutation(length: int, first: int, taken: Tensor, generator: Generator) -> Tensor:
    """Return a random permutation whose first numbers are none of the taken ones."""
    numbers = torch.randperm(length, generator=generator)
    if first == 0:
        return numbers
    is_taken = torch.zeros(length, dtype=torch.bool)
    is_taken[taken] = True
    start = numbers[~is_taken[numbers]][:first]
    is_start = torch.zeros(length, dtype=torch.bool)
    is_start[start] = True
    rest = (~is_start).nonzero()[:, 0]
    return torch.cat([start, rest[torch.randperm(len(rest), generator=generator)]])
