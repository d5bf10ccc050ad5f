"""Embeddings of labeled items: all in memory, or identity by identity from a data set."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pairfuse._checks import UNLABELED, check_finite
from pairfuse.solving.sums import whole_batches

READ = 16384  # items of a data set that are in memory at a time


class Embeddings:
    """Embeddings that are in memory.

    Args:
        embeddings: `(N, D)`.
        labels: `(N,)`.
    """

    def __init__(self, embeddings: Tensor, labels: Tensor) -> None:
        check_finite("solve_head", embeddings=embeddings)
        self._embeddings, self._labels = embeddings, labels

    def keep(self, positions: Tensor) -> None:
        """Keep the embeddings of some items for `rows`."""

    def peek(self) -> Tensor:
        """Return the embeddings of some labeled items."""
        labeled = (self._labels != UNLABELED).nonzero()[:, 0]
        return self._embeddings[labeled[:: max(1, len(labeled) // 4096)].to(self._embeddings.device)]

    def parts(self, inside: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield embeddings and labels of those items that are inside, in parts with whole identities."""
        yield self._embeddings, torch.where(inside, self._labels, UNLABELED)

    def rows(self, positions: Tensor) -> Tensor:
        """Return the embeddings of some items in float64."""
        return self._embeddings[positions.to(self._embeddings.device)].double()


class StreamedEmbeddings:
    """Embeddings of a data set, which are computed identity by identity and not kept.

    Args:
        encode: Returns the embeddings of the items at some positions `(n, D)`.
        labels: `(N,)`.
        fold: The fold of each item `(N,)`; they are read in this order.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], labels: Tensor, fold: Tensor) -> None:
        self._encode, self._labels, self._fold = encode, labels, fold
        self._first: tuple[Tensor, Tensor] | None = None
        self._kept: dict[str, Tensor] = {}
        self._wanted = torch.full_like(labels, -1)

    def keep(self, positions: Tensor) -> None:
        """Keep the embeddings of some items for `rows`, when they are read."""
        self._wanted[positions] = torch.arange(len(positions)) + int(self._wanted.max()) + 1

    def peek(self) -> Tensor:
        """Return the embeddings of the items that are read first."""
        batch = next(self._batches(self._fold == self._fold[self._labels != UNLABELED].min()))
        self._first = batch, self._read(batch)
        return self._first[1]

    def parts(self, inside: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield embeddings and labels of those items that are inside, in parts with whole identities."""
        for batch in self._batches(inside):
            if self._first is not None and torch.equal(self._first[0], batch):
                embeddings, self._first = self._first[1], None
            else:
                embeddings = self._read(batch)
            wanted = self._wanted[batch]
            some = wanted >= 0
            if "rows" not in self._kept:
                self._kept["rows"] = embeddings.new_empty(int(self._wanted.max()) + 1, embeddings.shape[1])
            self._kept["rows"][wanted[some].to(embeddings.device)] = embeddings[some.to(embeddings.device)]
            yield embeddings, self._labels[batch]

    def rows(self, positions: Tensor) -> Tensor:
        """Return the embeddings of some items that were kept, in float64."""
        return self._kept["rows"][self._wanted[positions].to(self._kept["rows"].device)].double()

    def _batches(self, inside: Tensor) -> Iterator[Tensor]:
        """Yield the positions of items of whole identities."""
        positions = (inside & (self._labels != UNLABELED)).nonzero()[:, 0]
        positions = positions[self._labels[positions].argsort(stable=True)]
        sizes = torch.unique_consecutive(self._labels[positions], return_counts=True)[1]
        ends = sizes.cumsum(0)
        for start, stop in whole_batches(sizes, READ):
            yield positions[int(ends[start - 1]) if start else 0 : int(ends[stop - 1])]

    def _read(self, batch: Tensor) -> Tensor:
        embeddings = self._encode(batch)
        check_finite("solve_head", embeddings=embeddings)
        return embeddings
