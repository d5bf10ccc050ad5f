"""`Gallery`: a set of items that is encoded once and compared with many queries."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._checks import check_all_pairs, check_finite, check_int, check_like, check_top_k
from pairfuse._layers import check_initialized, check_rows_apart
from pairfuse._modes import eval_mode
from pairfuse.items.reading import Items, known_length
from pairfuse.items.tower import Side, Tower, first_parameter
from pairfuse.scoring import MAX_BYTES, ScoreBlock, Scorer, TopK, top_k

_COMPARED = 1000  # embeddings, to see whether two sets are the same


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
        return self._one_by_one(blocks)

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
            _check_same_set(u[:_COMPARED], self._embeddings[:_COMPARED])
        with eval_mode(self.model) as model:
            return top_k(self._scorer("topk", model, u), k, exclude_self=exclude_self)

    def _scorer(self, owner: str, model: Any, u: Tensor) -> Scorer:
        return make_scorer(
            owner, model, u, self._embeddings, max_bytes=self.max_bytes, compile=self.compile, progress=self.progress
        )

    def _one_by_one(self, blocks: Iterator[ScoreBlock]) -> Iterator[ScoreBlock]:
        """Yield the blocks, each made in eval mode and without gradients."""
        while True:
            with torch.no_grad(), eval_mode(self.model):
                block = next(blocks, None)
            if block is None:
                return
            yield block._replace(scores=squeeze_single_output(block.scores))

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


def _check_same_set(u: Tensor, v: Tensor) -> None:
    """Raise if embeddings of one encoder differ by more than rounding, so that they are of other items."""
    if (u - v).norm() > 0.05 * v.norm():
        raise ValueError(
            "topk: exclude_self=True is for a set with itself, got queries whose embeddings differ from those of the "
            "gallery: pass no queries to Gallery.topk, or the same object twice to SiameseComparator.topk"
        )


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


@torch.no_grad()
def encode_items(model: Any, name: str, items: Items, side: Side, batch_size: int, progress: bool) -> Tensor:
    """Return the embeddings of many items, `(N, D)`, in eval mode and without gradients."""
    with eval_mode(model) as still:
        tower: Tower = still._tower(side)
        check_rows_apart(f"encoding {name}", tower.encoder)
        return tower.encode_items(name, items, batch_size=batch_size, progress=progress)


def make_scorer(
    owner: str,
    model: Any,
    u: Tensor,
    v: Tensor,
    *,
    max_bytes: int = MAX_BYTES,
    compile: bool = False,
    progress: bool = False,
) -> Scorer:
    """Return a scorer of two sets of embeddings. Raise unless they fit the model."""
    fusion, head = model.fusion, model.head
    check_all_pairs(owner, u, v, fusion.in_features, fusion.in2_features)
    check_initialized(owner, nn.ModuleList([fusion, head]))
    parameter = first_parameter(nn.ModuleList([fusion, head]))
    if parameter is not None:
        check_like(owner, parameter, u=u, v=v)
    max_bytes = check_int(owner, "max_bytes", max_bytes)
    check_rows_apart(owner, head)
    check_rows_apart(owner, fusion)
    return Scorer(
        fusion, head, u, v, scale=model.embedding_scale, max_bytes=max_bytes, compile=compile, progress=progress
    )


def squeeze_single_output(scores: Tensor) -> Tensor:
    """Drop the last dimension of logits `(N, M, K)` if K is 1."""
    return scores.squeeze(-1) if scores.shape[-1] == 1 else scores
