"""`SiameseComparator`: encode two inputs, fuse the embeddings, score the pair."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._assembly import build_fusion, find_item_ndim, in_dtype_of, is_single_pair, refuse_additive
from pairfuse._checks import check_int, check_logits, check_module, check_top_k
from pairfuse._deciding import Deciding
from pairfuse._deploying import Deploying
from pairfuse._layers import has_altered_output
from pairfuse._modes import eval_mode
from pairfuse._solving import Solving
from pairfuse._starting import StartableHead
from pairfuse.fusions.registry import FusionSpec
from pairfuse.gallery import Gallery, as_gallery, as_queries, count, encode_items, make_scorer, squeeze_single_output
from pairfuse.heads import check_head, is_monotone_affine, make_head
from pairfuse.items.batches import (
    Batch,
    add_batch_dimension,
    concatenate,
    count_items,
    fit_together,
)
from pairfuse.items.reading import Items
from pairfuse.items.tower import Side, Tower, first_parameter
from pairfuse.saving import Savable
from pairfuse.scoring import MAX_BYTES, InnerProductForm, ScoreBlock, TopK, inner_product_form


class SiameseComparator(StartableHead, Solving, Deciding, Savable, Deploying):
    r"""Compare two inputs: `head(fusion(encoder(x1), encoder(x2)))`.

    Returns logits: higher means "more the same". Train with `nn.BCEWithLogitsLoss` on targets 1.0 = same and
    0.0 = different.

    With one encoder for both sides ("tied") and inputs of equal shapes and dtypes, the encoder runs **once**, over the
    concatenated batch of 2B items. This is faster, and both sides share their batch statistics in train mode.
    Otherwise, or with `joint_pass=False`, it runs twice.

    Args:
        encoder: Any module from a batch of B items to embeddings `(B, D)`. A mapping is passed as keyword arguments,
            `encoder(**x1)`, if its keys name parameters of the encoder's `forward`; otherwise as one argument.
        fusion: A `Fusion`, a registered name, or a list of either (a list is a `Stack`). The default is symmetric
            and can always tell same from different.
        head: `"linear"`, `"mlp"`, or a module from fused features `(B, F)` to logits `(B, K)` or `(B,)`. A module
            is used as it is; the two named heads are initialized to suit the fusion.
        right_encoder: A separate encoder for `x2`.
        embedding_dim: Width D of the embeddings. By default it comes from the encoder (`embedding_dim`,
            `num_features`, `out_features`), from a given `Fusion`, or from the last `nn.Linear` of the encoder.
        item_ndim: The number of dimensions of one item (an image: 3). With it, the model also accepts a single pair
            without a batch dimension. By default the encoder's attribute `item_ndim`, if it has one. If two encoders
            take inputs of different kinds, set the attribute on each. All tensors of a nested input must have this
            many dimensions.
        joint_pass: If False, a tied encoder runs once for each side. Use this if it only accepts one batch size, such
            as an exported encoder.
        allow_additive: If True, allow an additive fusion with an affine head. Use this for a ranking model such as
            Bradley–Terry, or for three or more classes under one softmax ("first larger", "equal", "second larger").

    A fusion or head that is built from a name gets the device and dtype of the encoder's first parameter. Embeddings in
    a narrower dtype, such as from an encoder that uses autocast, are converted to the dtype of the fusion and head.

    Shape:
        - x1, x2: `(B, ...)`, or nested mappings, tuples or lists of tensors with the batch first; one item without
          its batch dimension if `item_ndim` is known
        - Output: `(B,)`, or `(B, K)` if the head has K > 1 outputs; `()` or `(K,)` for an unbatched pair

    Raises:
        AdditiveComparatorError: The head is affine, `allow_additive` is False, and the fusion is additive or, with
            one encoder, its `xnor` is `"never"`.
        TypeError: An argument is of the wrong kind.
        ValueError: A width or a name does not fit, the inputs do not match, or an encoder or head returns a wrong
            shape.

    References:
        Bromley, Guyon, LeCun, Säckinger and Shah, *Signature Verification using a "Siamese" Time Delay Neural
        Network*, NIPS 1993.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from torch import nn
        >>> pf.SiameseComparator(nn.Linear(8, 4), "product")(torch.randn(5, 8), torch.randn(5, 8)).shape
        torch.Size([5])
        >>> pf.SiameseComparator(nn.Linear(8, 4), "concat")
        Traceback (most recent call last):
            ...
        pairfuse.AdditiveComparatorError: Concat with an affine head computes g(u) + h(v), ...
    """

    def __init__(
        self,
        encoder: nn.Module,
        fusion: FusionSpec = "symmetric",
        head: str | nn.Module = "linear",
        *,
        right_encoder: nn.Module | None = None,
        embedding_dim: int | None = None,
        item_ndim: int | None = None,
        joint_pass: bool = True,
        allow_additive: bool = False,
    ) -> None:
        super().__init__()
        check_module("SiameseComparator", "encoder", encoder)
        if right_encoder is encoder:
            right_encoder = None
        if right_encoder is not None:
            check_module("SiameseComparator", "right_encoder", right_encoder)
        self.encoder = encoder
        self.right_encoder = right_encoder
        self.joint_pass = joint_pass
        self.item_ndim = find_item_ndim(encoder, item_ndim)
        self.right_item_ndim = self.item_ndim if right_encoder is None else find_item_ndim(right_encoder, item_ndim)
        self.fusion = build_fusion(fusion, encoder, right_encoder, embedding_dim)
        named = isinstance(head, str)
        if isinstance(head, str):
            head = make_head(head, self.fusion, tied=self.tied, like=first_parameter(encoder))
        check_module("SiameseComparator", "head", head)
        self.head = head
        self._register_start(named)
        if self._has_plain_head() and not allow_additive:
            refuse_additive(self.fusion, tied=self.tied)
        check_head(head, self.fusion.out_features)

    @property
    def tied(self) -> bool:
        """True if one encoder serves both sides."""
        return self.right_encoder is None

    @property
    def symmetric(self) -> bool:
        """True if swapping the inputs provably changes no logit in eval mode: one encoder and a symmetric fusion."""
        return self.tied and self.fusion.symmetry == "symmetric" and not has_altered_output(self.fusion)

    @property
    @override
    def additive(self) -> bool:
        """True if provably no logit can answer "same or different": an additive fusion with an affine head.

        In eval mode each logit is then g(x1) + h(x2), or a monotone function of it. A head of your own class counts as
        not affine, since pairfuse cannot inspect it, and so does one whose output, or the fusion's, a hook or a patch
        may change.
        """
        return self.fusion.additive and self._has_plain_head()

    def _has_plain_head(self) -> bool:
        """True if the head is affine, and nothing can change its output or that of the fusion."""
        return is_monotone_affine(self.head) and not any(map(has_altered_output, (self.fusion, self.head)))

    @override
    def forward(self, x1: Batch, x2: Batch) -> Tensor:
        """Return the logits of pairs, `(B,)` or `(B, K)`."""
        single = self._is_single(x1, x2)
        if single:
            x1, x2 = add_batch_dimension(x1), add_batch_dimension(x2)
        u, v = self._encode_pairs(x1, x2)
        logits: Tensor = self.head(self._fuse(u, v))  # (B, K)
        check_logits(logits, u.shape[0])
        if logits.ndim == 2 and logits.shape[1] == 1:
            logits = logits.squeeze(1)  # (B,)
        return logits.squeeze(0) if single else logits

    @override
    def _encode_pairs(self, x1: Batch, x2: Batch) -> tuple[Tensor, Tensor]:
        left, right = self._tower("left"), self._tower("right")
        if self.tied and self.joint_pass and fit_together(x1, x2):
            u, v = left.encode(concatenate(x1, x2), name="x1", given=x1).tensor_split(2)  # each (B, D)
        else:
            u, v = left.encode(x1, name="x1"), right.encode(x2, name="x2")  # (B, D), (B, D2)
        return in_dtype_of(self.fusion, self.head, u, v)

    @override
    def _is_single(self, x1: Batch, x2: Batch) -> bool:
        return is_single_pair(self._tower("left"), self._tower("right"), x1, x2)

    @override
    def _count_pairs(self, x1: Batch, x2: Batch) -> int:
        return 1 if self._is_single(x1, x2) else count_items("x1", x1)

    def encode(self, x: Batch, *, side: Side = "left") -> Tensor:
        """Embed items in the current mode, with gradients.

        Args:
            x: A batch of items, or a single item if `item_ndim` is known.
            side: The encoder to use if there are two, `"left"` or `"right"`.

        Returns:
            Embeddings `(B, D)`; `(D,)` for a single item.

        Raises:
            ValueError: The side is unknown, or the encoder does not return `(B, D)`.

        Examples:
            >>> import torch, pairfuse as pf
            >>> pf.SiameseComparator(torch.nn.Linear(8, 4)).encode(torch.randn(3, 8)).shape
            torch.Size([3, 4])
        """
        tower = self._tower(side)
        if tower.is_single("x", x):
            return tower.encode(add_batch_dimension(x), name="x").squeeze(0)
        return tower.encode(x, name="x")

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

    def _tower(self, side: Side) -> Tower:
        """Return one side of the comparison, with the current encoder."""
        if side not in ("left", "right"):
            raise ValueError(f"side must be 'left' or 'right', got {side!r}")
        if hasattr(type(self), "unshard") and type(first_parameter(self.head)).__name__ == "DTensor":
            raise RuntimeError(
                "SiameseComparator expects its weights to be gathered, got a model that fully_shard has sharded: only "
                "calling the model gathers them. To call another method, such as encode, first call "
                "torch.distributed.fsdp.register_fsdp_forward_method(model, 'encode')"
            )
        if side == "left" or self.right_encoder is None:
            return Tower(self.encoder, self.fusion.in_features, self.item_ndim)
        return Tower(self.right_encoder, self.fusion.in2_features, self.right_item_ndim)

    @override
    def extra_repr(self) -> str:
        return f"tied={self.tied}, symmetric={self.symmetric}, additive={self.additive}, item_ndim={self.item_ndim}"
