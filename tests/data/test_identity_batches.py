"""Batches of several items of several identities."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelings import labelings
from torch import distributed
from torch.utils.data import DataLoader, TensorDataset

from pairfuse.data import IdentityBatchSampler


@given(labelings(), st.integers(2, 8), st.integers(2, 5), st.integers(1, 4), st.integers(0, 3))
def test_an_epoch_has_every_item(labels, identities, items, world_size, seed):
    """Each batch is full, no item is in it twice, and all ranks together have every labeled item."""
    sizes = Counter(labels[labels != -1].tolist())
    identities = min(identities, len(sizes))
    seen, lengths = set(), set()
    for rank in range(world_size):
        sampler = IdentityBatchSampler(
            labels, identities=identities, items=items, seed=seed, rank=rank, world_size=world_size
        )
        batches = list(sampler)
        assert len(batches) == len(sampler)
        lengths.add(len(batches))
        for batch in batches:
            counts = Counter(labels[batch].tolist())
            assert len(set(batch)) == len(batch)
            assert len(counts) == identities
            assert all(count == min(items, sizes[identity]) for identity, count in counts.items())
            assert max(counts.values()) >= 2  # a positive pair
            seen.update(batch)
    assert len(lengths) == 1
    assert seen == set((labels != -1).nonzero()[:, 0].tolist())


@given(st.integers(1, 4), st.integers(2, 6), st.integers(2, 4), st.integers(1, 4), st.integers(1, 3))
def test_no_item_comes_twice_without_need(times, identities, items, visits, world_size):
    """Where the sizes fit, an epoch has every item once over all ranks."""
    size = visits * items
    labels = torch.arange(identities * times * world_size).repeat(size)
    options = {"identities": identities, "items": items, "world_size": world_size}
    samplers = [IdentityBatchSampler(labels, rank=rank, **options) for rank in range(world_size)]
    seen = [item for sampler in samplers for batch in sampler for item in batch]
    assert sorted(seen) == list(range(len(labels)))


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([4] * 8, 2),
        ([4] * 9, 3),  # the last batch is filled
        ([5] * 8, 4),  # two visits each
        ([40, 4, 4, 4, 4], 10),  # one identity in all batches
        ([2] + [1] * 11, 4),  # one place in each batch has a positive pair
        ([3, 2] + [1] * 30, 10),
    ],
)
def test_the_number_of_batches(sizes, batches):
    """It is the least that gives every item, full batches and a positive pair in each."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    sampler = IdentityBatchSampler(labels, identities=4, items=4)
    assert len(sampler) == len(list(sampler)) == batches
    assert all(len(batch) > len(set(labels[batch].tolist())) for batch in sampler)
    times = Counter(item for batch in sampler for item in batch)
    for identity in range(len(sizes)):  # what comes again is spread over the items of an identity
        of_it = [times[int(item)] for item in (labels == identity).nonzero()]
        assert max(of_it) - min(of_it) <= 1


def test_identities_meet_others_within_an_epoch():
    """An identity that is in several batches does not always meet the same ones."""
    labels = torch.arange(64).repeat(16)
    met = {identity: set() for identity in range(64)}
    for batch in IdentityBatchSampler(labels, identities=8, items=4):
        chosen = set(labels[batch].tolist())
        for identity in chosen:
            met[identity] |= chosen - {identity}
    assert min(map(len, met.values())) >= 20  # of four times seven; 7 if they kept together


def test_items_of_an_identity_meet_others_in_the_next_epoch():
    sampler, together = IdentityBatchSampler(torch.arange(16) // 8, identities=2), set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        together |= {frozenset(item for item in batch if item < 8) for batch in sampler}
    assert len(together) > 10  # of 70 fours; 2 if they kept together


def test_an_epoch_depends_on_seed_and_epoch_alone():
    labels, state = torch.arange(20).repeat(5), torch.get_rng_state()

    def batches(seed, epoch):
        sampler = IdentityBatchSampler(labels, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    sampler = IdentityBatchSampler(labels)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == batches(0, 1)
    sampler.set_epoch(0)
    assert list(sampler) == first == batches(0, 0)
    assert len({str(batches(seed, epoch)) for seed in (-1, 0, 1) for epoch in range(3)}) == 9
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_of_a_data_loader():
    labels = torch.arange(6).repeat(7)
    loader = DataLoader(TensorDataset(labels), batch_sampler=IdentityBatchSampler(labels, identities=3), num_workers=2)
    batches = [batch for (batch,) in loader]
    assert len(batches) == len(loader) == 4
    assert all(batch.unique(return_counts=True)[1].tolist() == [4, 4, 4] for batch in batches)


def test_the_process_group_is_found(monkeypatch):
    """Also one that is initialized after the sampler was made."""
    labels = torch.arange(16).repeat(4)
    sampler = IdentityBatchSampler(labels)
    assert len(sampler) == 2
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    assert list(sampler) == list(IdentityBatchSampler(labels, rank=1, world_size=2))
    assert len(sampler) == 1


LABELS = torch.tensor([0, 0, 1, 1, 2, -1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": LABELS.double()}, TypeError, "expects labels of an integer dtype, got torch.float64"),
        ({"labels": [[0, 1]]}, ValueError, r"expects labels of shape \(N,\), got shape \(1, 2\)"),
        ({"labels": []}, ValueError, "expects labels of at least one item, got none"),
        ({"labels": [-1, -1]}, ValueError, r"labels of at least one item, got 2 labels of -1 \(unlabeled\)"),
        ({"labels": [5, 5]}, ValueError, "expects at least 2 identities, got 1: there is no negative pair"),
        ({"labels": [1, 2, 3]}, ValueError, "2 items, got 3 identities with one item each: there is no positive pair"),
        ({"identities": 4}, ValueError, r"identities to be at most 3 \(the identities in labels\), got 4"),
        ({"identities": 1}, ValueError, "identities to be at least 2, got 1: there is no negative pair"),
        ({"items": 1}, ValueError, "items to be at least 2, got 1: there is no positive pair"),
        ({"items": 2.0}, TypeError, "items to be an int, got 2.0"),
        ({"rank": 0}, ValueError, "rank and world_size together, got rank=0, world_size=None"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank to be below world_size=2, got 2"),
        ({"rank": -1, "world_size": 2}, ValueError, "rank to be at least 0, got -1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^IdentityBatchSampler.* {message}"):
        IdentityBatchSampler(**{"labels": LABELS, "identities": 2, "items": 2} | arguments)
    with pytest.raises(ValueError, match="epoch to be at least 0, got -1"):
        IdentityBatchSampler(LABELS, identities=2).set_epoch(-1)
