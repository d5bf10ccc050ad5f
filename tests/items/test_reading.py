"""Reading many items: what is accepted, in which order it comes, and what is left out as labels."""

import re
from collections import UserDict, namedtuple
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import pairfuse as pf
from pairfuse.items.reading import known_length

X = torch.arange(40.0).reshape(8, 5)
LABELS = torch.arange(8) % 3
ITEMS = TensorDataset(X)
MODEL = pf.SiameseComparator(nn.Linear(5, 4), "product")


class Mapped(Dataset):
    """Item i is `function(i)`."""

    def __init__(self, function):
        self.function = function

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return self.function(index)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


class Duck:
    """Not torch's class."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index]


def raises(error, words):
    return pytest.raises(error, match=re.escape(words))


class Backwards(DataLoader):
    def __iter__(self):
        return iter(list(super().__iter__())[::-1])


def loader(**options):
    return DataLoader(ITEMS, **options)


@pytest.mark.parametrize(
    ("items", "got"),
    [
        (loader(batch_size=3, shuffle=True), "a RandomSampler"),
        (loader(batch_sampler=BatchSampler(RandomSampler(ITEMS), 3, False)), "a RandomSampler"),
        (loader(batch_size=3, sampler=SubsetRandomSampler([0, 1])), "a SubsetRandomSampler"),
        (loader(batch_size=3, sampler=DistributedSampler(ITEMS, 2, 0, shuffle=False)), "a DistributedSampler"),
        (loader(batch_size=3, sampler=[3, 1, 2, 0, 4, 5, 6, 7]), "a list"),
        (loader(batch_size=3, sampler=SequentialSampler(range(5))), "a SequentialSampler"),
        (loader(batch_sampler=[[0, 1], [4, 5]]), "a list"),
        (loader(batch_size=None, shuffle=True), "a RandomSampler"),
        (loader(batch_size=None, sampler=BatchSampler(RandomSampler(ITEMS), 3, False)), "a RandomSampler"),
        (loader(batch_size=3, drop_last=True), "drop_last=True: pass drop_last=False"),
        (loader(batch_sampler=BatchSampler(SequentialSampler(ITEMS), 3, True)), "drop_last=True"),
        (DataLoader(Stream(), 3, drop_last=True), "drop_last=True"),
        (DataLoader(Stream(), 3, num_workers=2), "num_workers=2 over an IterableDataset: pass num_workers=1"),
        (loader(batch_size=3, in_order=False), "in_order=False: pass in_order=True"),
        (Backwards(ITEMS, batch_size=3), "its own __iter__: pass its data set"),
    ],
)
def test_order(items, got):
    """A loader that is not known to give all items in order is refused: an index would mean nothing."""
    with raises(ValueError, f"queries must give all its items in order, got a DataLoader with {got}"):
        MODEL.topk(items, X, k=1)


def test_a_collate_that_drops_items():
    """The items are counted: some loaders leave out what cannot be read."""
    with raises(ValueError, "items must give all its items in order, got 6 of 8 items: check the collate_fn"):
        MODEL.encode_items(DataLoader(Mapped(lambda i: X[i]), 4, collate_fn=lambda rows: torch.stack(rows[1:])))


@pytest.mark.parametrize(
    "items",
    [
        loader(batch_size=3),
        loader(batch_size=4, drop_last=True),
        loader(batch_sampler=BatchSampler(SequentialSampler(ITEMS), 3, False)),
        loader(batch_size=None, sampler=BatchSampler(SequentialSampler(ITEMS), 3, False)),
        Stream(),
        DataLoader(Stream(), 3),
        Duck(),
        DataLoader(Duck(), 3),
        Subset(TensorDataset(X.flip(0), LABELS), range(7, -1, -1)),
        ConcatDataset([TensorDataset(X[:3]), TensorDataset(X[3:])]),
    ],
)
def test_what_is_in_order(items):
    torch.testing.assert_close(MODEL.encode_items(items, batch_size=3), MODEL.encode_items(X))


@pytest.mark.parametrize(
    "items",
    [
        TensorDataset(X, LABELS),
        DataLoader(TensorDataset(X, LABELS), 3),
        TensorDataset(X, LABELS[:, None].float()),
        Mapped(lambda i: (X[i], i > 3)),
        Mapped(lambda i: [X[i], "name"]),
    ],
)
def test_labels(items):
    """A data set of `(item, label)` is a data set of items, in every method that takes many."""
    due = MODEL.score_matrix(X, X)
    torch.testing.assert_close(MODEL.score_matrix(items, items, batch_size=3), due)
    assert torch.equal(MODEL.topk(items, items, k=2).indices, due.topk(2).indices)


class Last(nn.Module):
    """Takes a pair, `(ids, lengths)` or a mapping of both."""

    embedding_dim = 4

    def forward(self, x):
        ids, lengths = x.values() if isinstance(x, dict) else x
        return ids[:, :4] * lengths.reshape(len(ids), -1)


Text = namedtuple("Text", ["ids", "length"])


def test_an_encoder_that_takes_a_pair():
    """`(ids, lengths)` from a data set is an item with a label. All other pairs are passed on."""
    model, lengths = pf.SiameseComparator(Last(), "product"), torch.arange(1.0, 9.0)
    due = X[:, :4] * lengths[:, None]
    for items in (
        (X, lengths),
        Mapped(lambda i: ((X[i], lengths[i]), 1)),
        Mapped(lambda i: {"ids": X[i], "length": lengths[i]}),
        Mapped(lambda i: Text(X[i], lengths[i])),
        TensorDataset(X, lengths[:, None].expand(-1, 4)),
    ):
        torch.testing.assert_close(model.encode_items(items, batch_size=3), due)
    with raises(ValueError, "too many values to unpack") as error:
        model.encode_items(TensorDataset(X, lengths))
    assert "the second part of items was read as labels" in error.value.__notes__[-1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (torch.Tensor.numpy, "got ndarray: use torch.as_tensor(x, dtype=torch.float32), with the dtype of the"),
        (lambda x: x.long().numpy(), "got ndarray: use torch.as_tensor"),
        (lambda x: {"a": x.numpy()}, "got ndarray: use torch.as_tensor(x, dtype=torch.float32)"),
        (
            lambda x: [1, 2],
            "got int in a list: use torch.as_tensor; a list or tuple is one batch of parts, not a data set: stack its "
            "items with torch.stack, or pass DataLoader(items, batch_size=256)",
        ),
        (lambda x: [(x, None)], "got NoneType in a tuple: a list or tuple is one batch of parts, not a data set"),
        (iter, "got generator: join its items with torch.stack(list(...)), or write an IterableDataset"),
        (pack_sequence, "got PackedSequence: pass (padded, lengths), and call pack_padded_sequence in the encoder"),
        (torch.Tensor.to_sparse, "must be a dense tensor, got layout torch.sparse_coo: use .to_dense()"),
        (torch.Tensor.to_sparse_csr, "must be a dense tensor, got layout torch.sparse_csr: use .to_dense()"),
        (
            lambda x: torch.nested.nested_tensor([x[0], x[1, :2]], layout=torch.jagged),
            "must be a dense tensor, got a nested one: use torch.nested.to_padded_tensor",
        ),
        (lambda x: torch.nested.nested_tensor([x[0], x[1]]), "must be a dense tensor, got a nested one: use torch.nes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*nested")
def test_what_is_refused(make, words):
    """Everywhere, in the same words."""
    model = pf.SiameseComparator(nn.Identity(), embedding_dim=5)
    thing = (row for row in X) if make is iter else make(X)
    for call in (
        lambda: model(thing, thing),
        lambda: model.predict_proba(thing, thing),
        lambda: model.encode(thing),
        lambda: model.encode_items(thing),
        lambda: model.topk(X, thing, k=1),
    ):
        with raises(TypeError, words):
            call()


def test_tensordict():
    """It iterates over its rows, not over its names; a class of tensors looks like a data set."""
    tensordict = pytest.importorskip("tensordict")

    class Fields(tensordict.TensorClass):
        a: torch.Tensor

    for thing in (tensordict.TensorDict({"a": X}, batch_size=[8]), Fields(X, batch_size=[8])):
        for call in (MODEL.encode, MODEL.encode_items):
            with raises(TypeError, f"got {type(thing).__name__}: use .to_dict()"):
                call(thing)


@pytest.mark.parametrize("mapping", [dict, UserDict, MappingProxyType])
def test_any_mapping(mapping):
    model, x = pf.SiameseComparator(Last(), "product"), mapping({"ids": X, "length": X[:, 0] + 1})
    model.encoder.forward = lambda x: x["ids"][:, :4] * x["length"][:, None]
    torch.testing.assert_close(model(x, x), model.score_matrix(x, x, batch_size=3).diagonal())


def test_a_list_of_items():
    for encoder in (nn.Linear(5, 4), nn.Identity()):
        model = pf.SiameseComparator(encoder, embedding_dim=encoder(X).shape[1])
        with pytest.raises((TypeError, ValueError), match=r"if these are items, stack them with torch\.stack"):
            model.encode_items(list(X))
    items = [(row, 1) for row in X]
    torch.testing.assert_close(MODEL.encode_items(DataLoader(items, batch_size=256)), MODEL.encode_items(X))


@pytest.mark.parametrize(
    ("items", "length"),
    [
        (X, 8),
        ({"a": (X, X)}, 8),
        (ITEMS, 8),
        (Duck(), 8),
        (loader(batch_size=3), 8),
        (Stream(), None),
        (DataLoader(Stream(), 3), None),
        (torch.tensor(1.0), None),
        ([], None),
    ],
)
def test_known_length(items, length):
    assert known_length(items) == length
