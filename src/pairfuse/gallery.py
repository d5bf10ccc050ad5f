"""`Gallery`: a set of items that is encoded once and compared with many queries."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pairfuse._checks import check_finite, check_int, check_top_k
from pairfuse._modes import eval_mode
from pairfuse._sets import check_same_set, check_threshold, encode_items, make_scorer, squeeze_single_output
from pairfuse.items.reading import Items, known_length
from pairfuse.items.tower import Side
from pairfuse.scoring import (
    MAX_BYTES,
    MAX_MATCHES,
    Matches,
    ScoreBlock,
    Scorer,
    TopK,
    find_matches,
    iterate_matches,
    top_k,
)

T = TypeVar("T")


class Gallery:
    """A set of items that a comparator encodes once and compares with queries.

    Up to rounding, every score is the one that you get by calling the model on the pair. (A `forward` of your own, or a
    hook, of the model itself is not called.) All methods run in eval mode, without gradients, and do not change the
    model's mode. You can call them from several threads.

    The embeddings are computed when the gallery is made. If the encoder's weights change afterwards, its methods raise
    an error: make a new gallery. (Changes through `weight.data`, and changes other than of weights and buffers, go
    unnoticed.) You can still train the fusion and the head.

    Args:
        model: A `SiameseComparator`.
        items: M right items: a batch as for calling the model, or a `Dataset` or `DataLoader` of items.
        batch_size: Number of items that the encoder gets at a time, at least 1.
        max_bytes: Memory that scoring may use in addition to the embeddings and the result, in bytes.
        compile: If True, torch.compile fuses the computation for each pair. This takes some seconds, once for each
            kind of model. Then everything that is not a matrix product, such as `|u − v|` or a hidden layer, is
            several times faster. Without a compiler you get a warning and the same scores.
        progress: If True, show progress bars; needs tqdm.

    Raises:
        TypeError: The model is not a comparator, or the items are of the wrong kind.
        ValueError: There are no items, or a loader shuffles or drops items.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
        >>> gallery = pf.Gallery(model, torch.tensor([[0.0], [1.0], [5.0]]))
        >>> gallery.topk(torch.tensor([[0.8], [4.0]]), k=1).indices.flatten()
        tensor([1, 2])
        >>> gallery.topk(k=1, exclude_self=True).indices.flatten()  # the set with itself
        tensor([1, 0, 1])
    """

    def __init__(
        self,
        model: nn.Module,
        items: Items,
        *,
        batch_size: int = 256,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> None:
        self._start(model, "items", items, batch_size, max_bytes, compile, progress)

    def _start(
        self,
        model: nn.Module,
        name: str,
        items: Items,
        batch_size: int = 256,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> None:
        if not (isinstance(model, nn.Module) and hasattr(model, "_tower")):
            raise TypeError(f"Gallery expects model to be a SiameseComparator, got {type(model).__name__}")
        self.model: Any = model
        self.batch_size = batch_size
        self.max_bytes = check_int("Gallery", "max_bytes", max_bytes)
        self.compile = compile
        self.progress = progress
        self._embeddings = self._encode(name, items, "right")
        self._versions = self._encoder_versions()

    @property
    def embeddings(self) -> Tensor:
        """The embeddings of the items, `(M, D2)`."""
        return self._embeddings

    def __len__(self) -> int:
        """Return the number of items M."""
        return len(self._embeddings)

    def __repr__(self) -> str:
        return f"Gallery({len(self)} items of width {self._embeddings.shape[1]})"

    def scores(self, queries: "Items | Gallery | None" = None) -> Tensor:
        """Score every query against every item.

        Args:
            queries: N left items, or a gallery of the same model (with one encoder). None: the gallery itself.

        Returns:
            Logits `(N, M)`; `(N, M, K)` if the head has K > 1 outputs.

        Raises:
            TypeError: The queries are of the wrong kind.
            ValueError: There are no queries, the encoder has changed, or the budget is too small for one pair.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> pf.Gallery(model, torch.randn(5, 8)).scores(torch.randn(3, 8)).shape
            torch.Size([3, 5])
        """
        return self._scores("scores", "queries", queries)

    @torch.no_grad()
    def _scores(self, owner: str, name: str, queries: "Items | Gallery | None") -> Tensor:
        u = self._embed(name, queries)
        with eval_mode(self.model) as model:
            return squeeze_single_output(self._scorer(owner, model, u).matrix())

    def blocks(self, queries: "Items | Gallery | None" = None) -> Iterator[ScoreBlock]:
        """Iterate over the scores in blocks, row by row, for a matrix that does not fit into memory.

        The queries are encoded immediately. Every block is computed when it is requested, so do not change the model's
        weights before the last block.

        Args:
            queries: As for `scores`.

        Returns:
            An iterator of `(rows, columns, scores)`: two slices, and logits `(n, m)` or `(n, m, K)`.

        Raises:
            TypeError: As for `scores`.
            ValueError: As for `scores`.

        Examples:
            >>> import numpy, torch, pairfuse as pf
            >>> gallery = pf.Gallery(pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(100, 8))
            >>> matrix = numpy.empty((100, 100), dtype="float32")  # or numpy.memmap("scores.bin", ...)
            >>> for rows, columns, scores in gallery.blocks():
            ...     matrix[rows, columns] = scores
        """
        return self._blocks("blocks", "queries", queries)

    def _blocks(self, owner: str, name: str, queries: "Items | Gallery | None") -> Iterator[ScoreBlock]:
        u = self._embed(name, queries)
        with torch.no_grad(), eval_mode(self.model) as model:  # the scorer's plan depends on both
            blocks = self._scorer(owner, model, u).blocks()
        steps = self._in_eval_mode(blocks)
        return (step._replace(scores=squeeze_single_output(step.scores)) for step in steps)

    @torch.no_grad()
    def topk(self, queries: "Items | Gallery | None" = None, k: int = 1, *, exclude_self: bool = False) -> TopK:
        """Find the k items with the highest scores for each query, without holding the scores of all pairs.

        Args:
            queries: As for `scores`.
            k: Number of items to find, at most M.
            exclude_self: If True, leave out the pairs (i, i). For comparing a set with itself: pass no queries. With
                one encoder, queries whose first 1000 embeddings clearly differ from those of the items are an error.

        Returns:
            `(values, indices)`, both `(N, k)`, best first, as `torch.topk` returns them. The order of equal scores is
            arbitrary.

        Raises:
            TypeError: As for `scores`.
            ValueError: As for `scores`; or k is too large, the head has several outputs, an embedding or a score is NaN
                or infinite, or `exclude_self` is given for two different sets.

        Examples:
            >>> import torch, pairfuse as pf
            >>> gallery = pf.Gallery(pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(100, 8))
            >>> values, indices = gallery.topk(torch.randn(3, 8), k=10)
            >>> indices.shape
            torch.Size([3, 10])
        """
        k = check_int("topk", "k", k)
        asked = (
            len(self) if queries is None else len(queries) if isinstance(queries, Gallery) else known_length(queries)
        )
        check_top_k("topk", k, asked, len(self), exclude_self)  # before anything is encoded
        u = self._embed("queries", queries)
        check_finite("topk", queries=u, gallery=self._embeddings)
        check_top_k("topk", k, len(u), len(self), exclude_self)
        if exclude_self and self.model.tied:
            check_same_set(u, self._embeddings)
        with eval_mode(self.model) as model:
            return top_k(self._scorer("topk", model, u), k, exclude_self=exclude_self)

    def matches(
        self,
        queries: "Items | Gallery | None" = None,
        *,
        threshold: float | None = None,
        max_matches: int = MAX_MATCHES,
    ) -> Matches:
        """Find all pairs whose score is at least a threshold, without holding the scores of all pairs.

        Args:
            queries: As for `scores`. None: the gallery with itself; no item matches itself, and where the model is
                symmetric each pair comes once, with `left < right`. Otherwise both orders are asked.
            threshold: The least score of a match. By default that of `model.decision`.
            max_matches: The largest number of matches. Memory grows with their number, at 60 bytes each.

        Returns:
            Positions of both items and scores, best first.

        Raises:
            TypeError: As for `scores`; or the threshold is not a number.
            ValueError: As for `scores`; there is neither a threshold nor a decision, there are more matches (the error
                suggests a threshold), the head has several outputs, or an embedding or a score is NaN or infinite.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
            >>> left, right, scores = pf.Gallery(model, torch.tensor([[0.0], [0.1], [5.0]])).matches(threshold=0.0)
            >>> left, right
            (tensor([0]), tensor([1]))
        """
        return self._matches("queries", queries, threshold, max_matches, itself=queries is None)

    @torch.no_grad()
    def _matches(
        self, name: str, queries: "Items | Gallery | None", threshold: float | None, max_matches: int, *, itself: bool
    ) -> Matches:
        max_matches = check_int("matches", "max_matches", max_matches)
        with eval_mode(self.model) as model:
            join = self._join("matches", model, name, queries, threshold, itself)
            return find_matches(**join, max_matches=max_matches)

    def iter_matches(
        self, queries: "Items | Gallery | None" = None, *, threshold: float | None = None
    ) -> Iterator[Matches]:
        """Find the same pairs as `matches` part by part, in no order of the scores, to write them to a file.

        The queries are encoded immediately, and every part is computed when it is requested, so do not change the
        model's weights before the last one.

        Args:
            queries: As for `matches`.
            threshold: As for `matches`.

        Returns:
            An iterator of `Matches`. It raises the errors of `matches`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> gallery = pf.Gallery(pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(100, 8))
            >>> sum(len(part.scores) for part in gallery.iter_matches(threshold=-100.0))
            4950
        """
        return self._iter_matches("queries", queries, threshold, itself=queries is None)

    def _iter_matches(
        self, name: str, queries: "Items | Gallery | None", threshold: float | None, *, itself: bool
    ) -> Iterator[Matches]:
        with torch.no_grad(), eval_mode(self.model) as model:
            parts = iterate_matches(**self._join("iter_matches", model, name, queries, threshold, itself))
        return (part for part, _ in self._in_eval_mode(parts))

    def _join(
        self,
        owner: str,
        model: Any,
        name: str,
        queries: "Items | Gallery | None",
        threshold: float | None,
        itself: bool,
    ) -> dict[str, Any]:
        """Return what both ways to find matches take, checked before anything is encoded."""
        least = check_threshold(owner, threshold, self.model._current_decision(owner) if threshold is None else None)
        u = self._embed(name, queries)
        check_finite(owner, **{name: u, "gallery": self._embeddings})
        scorer = self._scorer(owner, model, u, progress=False)
        halved = itself and self.model.symmetric
        return {"scorer": scorer, "threshold": least, "itself": itself, "halved": halved, "progress": self.progress}

    def _scorer(self, owner: str, model: Any, u: Tensor, *, progress: bool | None = None) -> Scorer:
        shown = self.progress if progress is None else progress
        return make_scorer(
            owner, model, u, self._embeddings, max_bytes=self.max_bytes, compile=self.compile, progress=shown
        )

    def _in_eval_mode(self, steps: Iterator[T]) -> Iterator[T]:
        """Yield the steps, each made in eval mode and without gradients."""
        while True:
            with torch.no_grad(), eval_mode(self.model):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def _embed(self, name: str, queries: "Items | Gallery | None") -> Tensor:
        """Return the left embeddings of the queries `(N, D)`."""
        if self._encoder_versions() != self._versions:
            raise ValueError(
                "the encoder's weights have changed since this Gallery was made, or it is a copy: make a new one"
            )
        if queries is None or isinstance(queries, Gallery):
            if not self.model.tied:
                raise ValueError(
                    "a Gallery holds right embeddings, but this model encodes left items by another encoder: pass the "
                    f"items themselves as {name}"
                )
            if queries is not None and queries.model is not self.model:
                raise ValueError(f"{name} must be a Gallery of the same model, got one of another model")
            return self._embeddings if queries is None else queries.embeddings
        return self._encode(name, queries, "left")

    def _encode(self, name: str, items: Items, side: Side) -> Tensor:
        return encode_items(self.model, name, items, side, self.batch_size, self.progress)

    def _encoder_versions(self) -> list[int]:
        """Return the version of each tensor of the right encoder. torch increases it when the tensor changes."""
        encoder = self.model._tower("right").encoder
        tensors = [*encoder.parameters(), *encoder.buffers()]
        return [id(encoder), *(0 if x.is_inference() else x._version for x in tensors), *map(id, tensors)]


def as_queries(
    model: Any, name: str, queries: "Items | Gallery", gallery: "Items | Gallery"
) -> "Items | Gallery | None":
    """Return None, which stands for the gallery itself, if both are one object and one encoder serves both sides."""
    if queries is None:
        raise TypeError(f"{name} must be items or a Gallery, got None: to compare a set with itself, pass it twice")
    return None if queries is gallery and model.tied else queries


def count(items: "Items | Gallery") -> int | None:
    """Return the number of items, or None if it is unknown before they are read."""
    return len(items) if isinstance(items, Gallery) else known_length(items)


def as_gallery(model: nn.Module, name: str, items: "Items | Gallery", options: dict[str, Any]) -> Gallery:
    """Return a gallery of a model; items become one. `name` is the argument that errors name."""
    if not isinstance(items, Gallery):
        gallery = Gallery.__new__(Gallery)
        gallery._start(model, name, items, **options)
        return gallery
    if options:
        raise TypeError(f"{name} is a Gallery, which has its own options: do not pass {', '.join(options)}")
    if items.model is not model:
        raise ValueError(f"{name} must be a Gallery of this model, got one of another model")
    return items
