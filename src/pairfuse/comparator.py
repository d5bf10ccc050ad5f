"""`SiameseComparator`: encode two inputs, fuse the embeddings, score the pair."""

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._assembly import build_fusion, find_item_ndim, in_dtype_of, is_single_pair, refuse_additive
from pairfuse._checks import check_logits, check_module
from pairfuse._comparing import Comparing
from pairfuse._deciding import Deciding
from pairfuse._deploying import Deploying
from pairfuse._layers import has_altered_output
from pairfuse._solving import Solving
from pairfuse._starting import StartableHead
from pairfuse.fusions.registry import FusionSpec
from pairfuse.heads import check_head, is_monotone_affine, make_head
from pairfuse.items.batches import (
    Batch,
    add_batch_dimension,
    concatenate,
    count_items,
    fit_together,
)
from pairfuse.items.tower import Side, Tower, first_parameter
from pairfuse.saving import Savable


class SiameseComparator(StartableHead, Comparing, Solving, Deciding, Savable, Deploying):
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
