"""What a comparator does with all pairs of two sets: score them, find the best, hand them to an index."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pairfuse._checks import check_all_pairs, check_finite, check_int, check_like, check_top_k
from pairfuse._modes import eval_mode
from pairfuse.fusions import Fusion
from pairfuse.items.reading import Items, known_length
from pairfuse.items.tower import Side, Tower, first_parameter
from pairfuse.scoring import MAX_BYTES, InnerProductForm, ScoreBlock, Scorer, TopK, inner_product_form, top_k


class AllPairs(nn.Module):
    """The part of `SiameseComparator` that goes beyond given pairs; a base class, not for use by itself.

    Every method gives the scores that `forward` would give, and encodes every item once.
    """

    right_encoder: nn.Module | None
    fusion: Fusion
    head: nn.Module

    def _tower(self, side: Side) -> Tower:
        raise NotImplementedError

    def encode_items(
        self, items: Items, *, side: Side = "left", batch_size: int = 256, progress: bool = False
    ) -> Tensor:
        """The embeddings of many items, each encoded once: in eval mode, without gradients.

        Args:
            items: N items: a batch as for calling the model, or a `Dataset` or `DataLoader` of items.
            side: Which encoder to use, where there are two.
            batch_size: How many items the encoder sees at a time.
            progress: Show a progress bar; needs tqdm.

        Returns:
            Embeddings `(N, D)`.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: There are none, or the side is unknown.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> model.encode_items(torch.randn(1000, 8)).shape
            torch.Size([1000, 4])
        """
        return self._encode_items("items", items, side, batch_size, progress)

    def score_embeddings(self, u: Tensor, v: Tensor, *, max_bytes: int = MAX_BYTES, compile: bool = False) -> Tensor:
        """Score every left embedding against every right one, as `forward` scores each pair but for rounding.

        In the present mode and with gradients, so that B encoded items train on B² pairs. The first linear layer of the
        head goes through the algebra of the fusion; most often it is one matrix product. Without gradients the pairs go
        through the head in blocks, of which each is a batch to a batch norm in train mode: call `eval()` first.

        Args:
            u: Left embeddings `(N, D)`, such as `encode(x1)`.
            v: Right embeddings `(M, D2)`.
            max_bytes: How much memory the scoring may take beside the result. With gradients everything is kept.
            compile: Let torch.compile fuse what is computed for each pair: after some seconds, once for each kind of
                model, several times faster on what is no matrix product, such as `|u − v|` or a hidden layer. Without a
                compiler a warning says so, and scoring goes on.

        Returns:
            Logits `(N, M)`; `(N, M, K)` where the head has K > 1 outputs.

        Raises:
            TypeError: The embeddings are not floating-point.
            ValueError: The widths do not fit, the embeddings are on another device than the model or of a wider dtype,
                or the budget is too small for one pair.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> model.score_embeddings(torch.randn(3, 4), torch.randn(5, 4)).shape
            torch.Size([3, 5])
        """
        return squeeze_single_output(
            self._scorer("score_embeddings", u, v, max_bytes, compile, progress=False).matrix()
        )

    @torch.no_grad()
    def score_matrix(
        self,
        x1: Items,
        x2: Items,
        *,
        batch_size: int = 256,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> Tensor:
        """Score all pairs of two sets of items; each item is encoded once. In eval mode, without gradients.

        Args:
            x1: N left items: a batch as for calling the model, or a `Dataset` or `DataLoader` of items.
            x2: M right items.
            batch_size: How many items the encoder sees at a time.
            max_bytes: How much memory the scoring may take beside the embeddings and the result.
            compile: As in `score_embeddings`.
            progress: Show a progress bar; needs tqdm.

        Returns:
            Logits `(N, M)`; `(N, M, K)` where the head has K > 1 outputs.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: There are none, or the budget is too small for one pair.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> model.score_matrix(torch.randn(3, 8), torch.randn(5, 8)).shape
            torch.Size([3, 5])
        """
        with eval_mode(self):
            u, v = self._encode_sets(("x1", x1), ("x2", x2), batch_size, progress)
            return squeeze_single_output(self._scorer("score_matrix", u, v, max_bytes, compile, progress).matrix())

    def iter_score_blocks(
        self,
        x1: Items,
        x2: Items,
        *,
        batch_size: int = 256,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> Iterator[ScoreBlock]:
        """The score matrix block by block, row by row: for a matrix that does not fit into memory.

        In eval mode, without gradients. The items are encoded at once; every block when it is asked for, and in between
        the model is in the mode in which it was. Do not change the model's weights before the last block.

        Args:
            x1: N left items, as for `score_matrix`.
            x2: M right items.
            batch_size: How many items the encoder sees at a time.
            max_bytes: How much memory a block and its scoring may take beside the embeddings.
            compile: As in `score_embeddings`.
            progress: Show a progress bar; needs tqdm.

        Returns:
            An iterator of `(rows, columns, scores)`: two slices, and logits `(n, m)`, or `(n, m, K)`.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: There are none, or the budget is too small for one pair.

        Examples:
            >>> import numpy, torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> x = torch.randn(100, 8)
            >>> matrix = numpy.empty((100, 100), dtype="float32")  # or numpy.memmap("scores.bin", ...)
            >>> for rows, columns, scores in model.iter_score_blocks(x, x):
            ...     matrix[rows, columns] = scores
        """
        u, v = self._encode_sets(("x1", x1), ("x2", x2), batch_size, progress)
        with torch.no_grad(), eval_mode(self):  # what the scorer sees of the head depends on both
            blocks = self._scorer("iter_score_blocks", u, v, max_bytes, compile, progress).blocks()
        return self._one_by_one(blocks)

    @torch.no_grad()
    def topk(
        self,
        queries: Items,
        gallery: Items,
        k: int,
        *,
        exclude_self: bool = False,
        batch_size: int = 256,
        max_bytes: int = MAX_BYTES,
        compile: bool = False,
        progress: bool = False,
    ) -> TopK:
        """The k items of a gallery that score highest for each query; the scores of all pairs are never held together.

        In eval mode, without gradients; each item is encoded once.

        Args:
            queries: N items, as for `score_matrix`; the left ones.
            gallery: M items; the right ones.
            k: How many, at most M.
            exclude_self: Leave out the pair (i, i): for a set against itself.
            batch_size: How many items the encoder sees at a time.
            max_bytes: How much memory the scoring may take beside the embeddings and the result.
            compile: As in `score_embeddings`.
            progress: Show a progress bar; needs tqdm.

        Returns:
            `(values, indices)`, both `(N, k)`, best first, as `torch.topk`.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: k is larger than the gallery, the head has several outputs, an embedding is not finite, a
                loader shuffles or drops items, there are no items, or the budget is too small for one pair.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
            >>> x = torch.tensor([[0.0], [1.0], [5.0]])
            >>> model.topk(x, x, k=1, exclude_self=True).indices.flatten()
            tensor([1, 0, 1])
        """
        k = check_int("topk", "k", k)
        with eval_mode(self):
            if (known := known_length(gallery)) is not None and known > 0:
                check_top_k("topk", k, known, known, exclude_self=False)  # before anything is encoded
            u, v = self._encode_sets(("queries", queries), ("gallery", gallery), batch_size, progress)
            check_finite("topk", queries=u, gallery=v)
            check_top_k("topk", k, len(u), len(v), exclude_self)
            return top_k(self._scorer("topk", u, v, max_bytes, compile, progress), k, exclude_self=exclude_self)

    def inner_product_form(self, *, origin: Tensor | None = None) -> InnerProductForm:
        """The scores as inner products, for serving them elsewhere: in faiss or any vector database.

        A snapshot: later training does not change it.

        Args:
            origin: A point `(D,)` near the embeddings, such as the mean of the gallery's: `(u − v)²` is expanded around
                it, and is inaccurate far from it. 0 by default; without squared differences it does not matter.

        Returns:
            An `InnerProductForm`: `to_query(u)`, `to_gallery(v)`, and a constant.

        Raises:
            TypeError: The origin is no tensor.
            ValueError: The fusion has no factors (the table of all fusions: "fast path"), the head is not linear with
                one output, a hook or a patched method alters either, or the origin is not of shape `(D,)`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "squared-diff")
            >>> u, v = torch.randn(3, 4), torch.randn(5, 4)
            >>> form = model.inner_product_form()
            >>> scores = form.to_query(u) @ form.to_gallery(v).T + form.constant
            >>> torch.allclose(scores, model.score_embeddings(u, v), atol=1e-4)
            True
        """
        return inner_product_form(self.fusion, self.head, origin)

    def _scorer(self, owner: str, u: Tensor, v: Tensor, max_bytes: int, compile: bool, progress: bool) -> Scorer:
        check_all_pairs(owner, u, v, self.fusion.in_features, self.fusion.in2_features)
        parameter = first_parameter(nn.ModuleList([self.fusion, self.head]))
        if parameter is not None:
            check_like(owner, parameter, u=u, v=v)
        max_bytes = check_int(owner, "max_bytes", max_bytes)
        return Scorer(self.fusion, self.head, u, v, max_bytes=max_bytes, compile=compile, progress=progress)

    def _one_by_one(self, blocks: Iterator[ScoreBlock]) -> Iterator[ScoreBlock]:
        """The blocks, each made in eval mode and without gradients, with the mode of before between them."""
        while True:
            with torch.no_grad(), eval_mode(self):
                block = next(blocks, None)
            if block is None:
                return
            yield block._replace(scores=squeeze_single_output(block.scores))

    def _encode_sets(
        self, left: tuple[str, Items], right: tuple[str, Items], batch_size: int, progress: bool
    ) -> tuple[Tensor, Tensor]:
        """The embeddings of both sets; of one set against itself once."""
        u = self._encode_items(*left, "left", batch_size, progress)
        if left[1] is right[1] and self.right_encoder is None:
            return u, u
        return u, self._encode_items(*right, "right", batch_size, progress)

    @torch.no_grad()
    def _encode_items(self, name: str, items: Items, side: Side, batch_size: int, progress: bool) -> Tensor:
        with eval_mode(self) as model:
            return model._tower(side).encode_items(name, items, batch_size=batch_size, progress=progress)


def squeeze_single_output(scores: Tensor) -> Tensor:
    """Logits `(N, M, K)`, without K where it is 1."""
    return scores.squeeze(-1) if scores.shape[-1] == 1 else scores
