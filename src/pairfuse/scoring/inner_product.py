"""The scores of a comparator as inner products, for vector databases."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pairfuse._checks import check_finite, check_tensor
from pairfuse._layers import check_initialized, is_altered
from pairfuse._modes import eval_mode
from pairfuse.fusions import Fusion
from pairfuse.heads import split_head
from pairfuse.saving.form import load_parts, save_parts
from pairfuse.scoring.factors import Factors, inner_products, join_factors
from pairfuse.scoring.plan import leaf_factors, take_apart


@dataclass(frozen=True)
class InnerProductForm:
    """`score(u, v) = to_query(u) · to_gallery(v) + constant`, for every pair, up to rounding.

    Made by `SiameseComparator.inner_product_form`.

    Attributes:
        fusion: The fusion, frozen.
        weight: The weight of the head, `(1, F)`.
        constant: The bias of the head, `()`. It does not change the order of the scores.
        origin: The point `(D,)` that is subtracted before squares are computed, or None for 0.
        scale: The model's `embedding_scale`, by which embeddings and origin are multiplied, or None for 1.
    """

    fusion: Fusion
    weight: Tensor
    constant: Tensor
    origin: Tensor | None = None
    scale: Tensor | None = None

    @property
    def features(self) -> int:
        """The width S of a query or gallery vector."""
        return self.to_query(self.weight.new_zeros(1, self.fusion.in_features)).shape[1]

    @torch.no_grad()
    def to_query(self, u: Tensor) -> Tensor:
        """Turn left embeddings `(N, D)` into query vectors `(N, S)`, where S is `features`."""
        _check_side("to_query", "u", u, self.fusion.in_features)
        u = u.to(self.weight)
        return inner_products(self._factors(u, u.new_empty(0, self.fusion.in2_features)))[0]

    @torch.no_grad()
    def to_gallery(self, v: Tensor) -> Tensor:
        """Turn right embeddings `(M, D2)` into gallery vectors `(M, S)`."""
        _check_side("to_gallery", "v", v, self.fusion.in2_features)
        v = v.to(self.weight)
        return inner_products(self._factors(v.new_empty(0, self.fusion.in_features), v))[1]

    def save(self, path: str | Path) -> None:
        """Write the form to one file of safetensors. Nothing is pickled.

        Args:
            path: The file, such as `"form.safetensors"`. Its folder must exist; a form in it is replaced.

        Examples:
            >>> import tempfile, torch, pairfuse as pf
            >>> from pairfuse.scoring import InnerProductForm
            >>> form = pf.SiameseComparator(torch.nn.Linear(8, 4), "squared-diff").inner_product_form()
            >>> v = torch.randn(5, 4)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     form.save(f"{folder}/form.safetensors")
            ...     loaded = InnerProductForm.load(f"{folder}/form.safetensors")
            >>> torch.equal(loaded.to_gallery(v), form.to_gallery(v))
            True
        """
        tensors = {"weight": self.weight, "constant": self.constant, "origin": self.origin, "scale": self.scale}
        save_parts(Path(path), self.fusion, {name: tensor for name, tensor in tensors.items() if tensor is not None})

    @classmethod
    def load(cls, path: str | Path, *, fusion: Fusion | None = None) -> "InnerProductForm":
        """Read a form that `save` has written, on the CPU.

        Args:
            path: The file.
            fusion: A fusion of your own that is not registered, or cannot be built from its options.

        Returns:
            The form. Its vectors equal those of the form that was saved, bit for bit.

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: A fusion of your own is missing, or is of the wrong kind.
            ValueError: The file is damaged, is not one of a form, or does not fit the fusion.
        """
        fusion, tensors = load_parts(Path(path), fusion)
        return cls(fusion.eval().requires_grad_(False), **tensors)

    def _factors(self, u: Tensor, v: Tensor) -> Factors:
        leaves, origin = take_apart(self.fusion, self.weight), self.origin
        if self.scale is not None:
            u, v, origin = u * self.scale, v * self.scale, None if origin is None else origin * self.scale
        return join_factors([leaf_factors(leaf, u, v, origin) for leaf in leaves])


@torch.no_grad()
def inner_product_form(
    fusion: Fusion, head: nn.Module, origin: Tensor | None, scale: Tensor | None = None
) -> InnerProductForm:
    """Return the scores of a fusion and a head as inner products.

    Raises:
        ValueError: The scores are not inner products.
    """
    check_initialized("inner_product_form", nn.ModuleList([fusion, head]))
    if not fusion.fast_path:
        raise ValueError(
            f"inner_product_form expects a separable fusion, got {type(fusion).__name__}: a score such as |u − v| "
            "is not an inner product. Use topk or score_matrix, or train with 'product', 'squared-diff' or another "
            "fusion whose fast path is yes in the table of all fusions"
        )
    if is_altered(fusion) or is_altered(head):
        raise ValueError(
            "inner_product_form expects a fusion and a head without hooks or patched methods, since an index "
            "ignores them: remove them, or use topk or score_matrix"
        )
    with eval_mode(head) as still:
        split = split_head(still)
    if split is None or split.rest or len(split.weight) != 1:
        raise ValueError(
            f"inner_product_form expects a linear head with one output, got {head}: several outputs, or the output "
            "of a hidden layer, are not an inner product. Use topk or score_matrix"
        )
    wide = torch.promote_types(split.weight.dtype, torch.float32)
    weight = split.weight.detach().to(wide, copy=True)
    fusion = copy.deepcopy(fusion).eval().requires_grad_(False).to(wide)
    if origin is not None:
        check_tensor("inner_product_form", "origin", origin)
        if origin.shape != (fusion.in_features,) or fusion.in_features != fusion.in2_features:
            raise ValueError(
                f"inner_product_form expects origin of shape ({fusion.in_features},), with embeddings of one width, "
                f"got shape {tuple(origin.shape)}"
            )
        check_finite("inner_product_form", origin=origin)
        origin = origin.detach().to(weight)
    constant = weight.new_zeros(()) if split.bias is None else split.bias.detach().to(wide, copy=True).squeeze()
    return InnerProductForm(
        fusion, weight, constant, origin, None if scale is None else scale.detach().to(wide, copy=True)
    )


def _check_side(owner: str, argument: str, x: Tensor, width: int) -> None:
    """Raise unless `x` is a set of float embeddings `(N, width)`."""
    check_tensor(owner, argument, x)
    if x.ndim != 2 or x.shape[1] != width or not x.is_floating_point():
        raise ValueError(
            f"{owner} expects floating-point {argument} of shape (N, {width}), got {x.dtype} of shape {tuple(x.shape)}"
        )
