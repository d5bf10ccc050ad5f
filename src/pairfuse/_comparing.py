"""The part of a comparator that compares whole sets: all scores, the best, all matches."""

import copy
from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor, nn

from pairfuse._checks import check_int, check_top_k
from pairfuse._modes import eval_mode
from pairfuse._sets import encode_items, make_scorer, squeeze_single_output
from pairfuse.fusions import Fusion
from pairfuse.gallery import Gallery, as_gallery, as_queries, count
from pairfuse.items.reading import Items
from pairfuse.items.tower import Side
from pairfuse.scoring import (
    MAX_BYTES,
    MAX_MATCHES,
    InnerProductForm,
    Matches,
    ScoreBlock,
    TopK,
    inner_product_form,
)


class Comparing(nn.Module):
    """All pairs of two sets, with each item encoded once. A line or two call what `Gallery` and the scorer do."""

    fusion: Fusion
    head: nn.Module
    embedding_scale: Tensor | None
    item_ndim: int | None
    right_item_ndim: int | None

    @property
    def tied(self) -> bool:
        """True if one encoder serves both sides."""
        raise NotImplementedError

    def encode_items(
        self, items: Items, *, side: Side = "left", batch_size: int = 256, progress: bool = False
    ) -> Tensor:
        """Embed many items, each once, in eval mode and without gradients.

        Args:
            items: N items: a batch as for calling the model, or a `Dataset` or `DataLoader` of items.
            side: The encoder to use if there are two, `"left"` or `"right"`.
            batch_size: As for [`Gallery`][pairfuse.Gallery].
            progress: If True, show a progress bar.

        Returns:
            Embeddings `(N, D)`. It raises the errors of `Gallery`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> pf.SiameseComparator(torch.nn.Linear(8, 4)).encode_items(torch.randn(1000, 8)).shape
            torch.Size([1000, 4])
        """
        return encode_items(self, "items", items, side, batch_size, progress)

    def on_embeddings(self) -> Self:
        """Return this comparison for items that are encoded already: items are embeddings, as `encode` returns them.

        Fusion and head are shared with this model, so training one trains the other, and `eval()` or a new dtype of one
        changes both. The decision is the present one.

        Returns:
            A comparator whose encoders are `nn.Identity()`, with all methods.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model, x = pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(5, 8)
            >>> scores = model.on_embeddings().score_matrix(model.encode_items(x), model.encode_items(x))
            >>> torch.equal(scores, model.score_matrix(x, x))
            True
        """
        twin = copy.copy(self)
        sides = [name for name in ("encoder", "right_encoder") if self._modules.get(name) is not None]
        twin._modules = {**self._modules, **{name: nn.Identity() for name in sides}}
        twin.item_ndim = twin.right_item_ndim = 1
        return twin

    def score_embeddings(self, u: Tensor, v: Tensor, *, max_bytes: int = MAX_BYTES, compile: bool = False) -> Tensor:
        """Score every left embedding against every right one. The scores equal those of `forward` up to rounding.

        It runs in the current mode and with gradients, so B encoded items train on B² pairs. The first linear layer of
        the head is usually one matrix product, by the algebra of the fusion. Without gradients the pairs go through the
        head in blocks. In train mode a batch norm sees each block as a batch: call `eval()` first.

        Args:
            u: Left embeddings `(N, D)`, such as `encode(x1)`.
            v: Right embeddings `(M, D2)`.
            max_bytes: As for `Gallery`. With gradients everything is kept and the budget is ignored.
            compile: As for `Gallery`.

        Returns:
            Logits `(N, M)`; `(N, M, K)` if the head has K > 1 outputs.

        Raises:
            TypeError: The embeddings are not floating-point.
            ValueError: Widths, devices or dtypes do not fit, or the budget is too small for one pair.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> model.score_embeddings(torch.randn(3, 4), torch.randn(5, 4)).shape
            torch.Size([3, 5])
        """
        scorer = make_scorer("score_embeddings", self, u, v, max_bytes=max_bytes, compile=compile)
        return squeeze_single_output(scorer.matrix())

    def score_matrix(self, x1: Items | Gallery, x2: Items | Gallery, **options: Any) -> Tensor:
        """Score all pairs of two sets. Each item is encoded once: `Gallery(model, x2, **options).scores(x1)`.

        Args:
            x1: N left items.
            x2: M right items, or a `Gallery` of them.
            **options: `batch_size`, `max_bytes`, `compile` and `progress` of [`Gallery`][pairfuse.Gallery].

        Returns:
            Logits `(N, M)`; `(N, M, K)` if the head has K > 1 outputs. It raises the errors of `Gallery.scores`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> pf.SiameseComparator(torch.nn.Linear(8, 4)).score_matrix(torch.randn(3, 8), torch.randn(5, 8)).shape
            torch.Size([3, 5])
        """
        queries = as_queries(self, "x1", x1, x2)
        return as_gallery(self, "x2", x2, options)._scores("score_matrix", "x1", queries)

    def iter_score_blocks(self, x1: Items | Gallery, x2: Items | Gallery, **options: Any) -> Iterator[ScoreBlock]:
        """Score all pairs block by block: `Gallery(model, x2, **options).blocks(x1)`. See `score_matrix`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model, x = pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(100, 8)
            >>> sum(scores.numel() for rows, columns, scores in model.iter_score_blocks(x, x))
            10000
        """
        queries = as_queries(self, "x1", x1, x2)
        return as_gallery(self, "x2", x2, options)._blocks("iter_score_blocks", "x1", queries)

    def topk(
        self, queries: Items | Gallery, gallery: Items | Gallery, k: int, *, exclude_self: bool = False, **options: Any
    ) -> TopK:
        """Find the k best items for each query: `Gallery(model, gallery, **options).topk(queries, k)`.

        Args:
            queries: N left items.
            gallery: M right items, or a `Gallery` of them.
            k: Number of items to find, at most M.
            exclude_self: If True, leave out the pairs (i, i). For comparing a set with itself: pass it twice.
            **options: As for `score_matrix`.

        Returns:
            `(values, indices)`, both `(N, k)`, best first. It raises the errors of `Gallery.topk`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
            >>> x = torch.tensor([[0.0], [1.0], [5.0]])
            >>> model.topk(x, x, k=1, exclude_self=True).indices.flatten()
            tensor([1, 0, 1])
        """
        k = check_int("topk", "k", k)
        check_top_k("topk", k, count(queries), count(gallery), exclude_self)  # before anything is encoded
        queries_or_none = as_queries(self, "queries", queries, gallery)
        return as_gallery(self, "gallery", gallery, options).topk(queries_or_none, k, exclude_self=exclude_self)

    def matches(
        self,
        x1: Items | Gallery,
        x2: Items | Gallery | None = None,
        *,
        threshold: float | None = None,
        max_matches: int = MAX_MATCHES,
        **options: Any,
    ) -> Matches:
        """Find all pairs whose score is at least a threshold: `Gallery(model, x2, **options).matches(x1)`.

        Args:
            x1: N left items.
            x2: M right items, or a `Gallery` of them. None: `x1` with itself, as for `Gallery.matches`.
            threshold: The least score of a match. By default that of `decision`.
            max_matches: The largest number of matches.
            **options: As for `score_matrix`.

        Returns:
            `(left, right, scores)`, each `(n,)`, best first. It raises the errors of `Gallery.matches`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
            >>> x = torch.tensor([[0.0], [0.1], [5.0]])
            >>> model.matches(x, threshold=0.0).right
            tensor([1])
        """
        gallery, queries = self._joined(x1, x2, options)
        return gallery._matches("x1", queries, threshold, max_matches, itself=x2 is None)

    def iter_matches(
        self, x1: Items | Gallery, x2: Items | Gallery | None = None, *, threshold: float | None = None, **options: Any
    ) -> Iterator[Matches]:
        """Find the pairs of `matches` part by part, to write them to a file. See `Gallery.iter_matches`."""
        gallery, queries = self._joined(x1, x2, options)
        return gallery._iter_matches("x1", queries, threshold, itself=x2 is None)

    def _joined(
        self, x1: Items | Gallery, x2: Items | Gallery | None, options: dict[str, Any]
    ) -> tuple[Gallery, Items | Gallery | None]:
        """Return the gallery of a join and its queries; None stands for the gallery itself."""
        if x2 is None:
            return as_gallery(self, "x1", x1, options), None if self.tied else x1
        return as_gallery(self, "x2", x2, options), x1

    def inner_product_form(self, *, origin: Tensor | None = None) -> InnerProductForm:
        """Return the scores as inner products, for faiss or any vector database.

        This is a snapshot: later training does not change it.

        Args:
            origin: A point `(D,)` near the embeddings, such as the mean of the gallery. By default 0. It only matters
                for squared differences: `(u − v)²` is expanded around it, and is inaccurate far from it.

        Returns:
            An `InnerProductForm`: `to_query(u)`, `to_gallery(v)`, and a constant.

        Raises:
            TypeError: The origin is not a tensor.
            ValueError: The fusion is not separable (no "fast path" in the table of all fusions), the head is not linear
                with one output, a hook or a patched method alters either, or the origin does not have shape `(D,)`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "squared-diff")
            >>> u, v = torch.randn(3, 4), torch.randn(5, 4)
            >>> form = model.inner_product_form()
            >>> scores = form.to_query(u) @ form.to_gallery(v).T + form.constant
            >>> torch.allclose(scores, model.score_embeddings(u, v), atol=1e-4)
            True
        """
        with eval_mode(self) as model:
            return inner_product_form(model.fusion, model.head, origin, model.embedding_scale)
