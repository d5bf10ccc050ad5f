"""Fit the parts of a comparator together: widths, dtypes and the two inputs."""

import torch
from torch import Tensor, nn

from pairfuse._checks import as_dtype, check_int
from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion
from pairfuse.items.batches import Batch, count_items, describe
from pairfuse.items.tower import Tower, first_parameter, require_width


class AdditiveComparatorError(ValueError):
    """An affine head on this fusion cannot answer "same?", usually because the fusion is a sum `g(u) + h(v)`."""

    __module__ = "pairfuse"  # its public place, which a traceback shows


def refuse_additive(fusion: Fusion, *, tied: bool) -> None:
    """Raise if no affine head on a fusion can tell same from different."""
    facts = fusion.facts()
    if not facts.additive and not (tied and facts.xnor == "never"):
        return
    reason = "computes g(u) + h(v), and no such sum can tell same from different (it is XNOR)"
    if not facts.additive:
        reason = "and one encoder cannot tell same from different (the fusion's xnor is 'never')"
    raise AdditiveComparatorError(
        f"{type(fusion).__name__} with an affine head {reason}: the logit would stay at chance. Use a fusion that is "
        "not additive, such as fusion='product' or the default, or a head with a hidden layer, such as head='mlp'. For "
        "a model that is additive on purpose, such as a ranking, pass allow_additive=True."
    )


def build_fusion(
    spec: FusionSpec, encoder: nn.Module, right_encoder: nn.Module | None, embedding_dim: int | None
) -> Fusion:
    """Build the fusion of a comparator, for the widths of its encoders."""
    if embedding_dim is not None:
        check_int("SiameseComparator", "embedding_dim", embedding_dim)
    parts = spec if isinstance(spec, (list, tuple)) else [spec]
    built = next((part for part in parts if isinstance(part, Fusion)), None)
    left = require_width("encoder", encoder, embedding_dim, built.in_features if built else None)
    right = left
    if right_encoder is not None:
        right = require_width("right_encoder", right_encoder, embedding_dim, built.in2_features if built else None)
    fusion = as_fusion(spec, left, right, like=first_parameter(encoder))
    if (fusion.in_features, fusion.in2_features) != (left, right):
        raise ValueError(
            f"fusion {type(fusion).__name__} expects embeddings of widths {fusion.in_features} (u) and "
            f"{fusion.in2_features} (v), but the encoders give {left} and {right}. Build the fusion for these, or "
            "pass embedding_dim=... if the encoder returns another width than it declares"
        )
    return fusion


def find_item_ndim(encoder: nn.Module, given: int | None) -> int | None:
    """Return the number of dimensions of one item: the given one, the one that the encoder declares, or None."""
    ndim = getattr(encoder, "item_ndim", None) if given is None else given
    return None if ndim is None else check_int("SiameseComparator", "item_ndim", ndim, least=0)


def is_single_pair(left: Tower, right: Tower, x1: Batch, x2: Batch) -> bool:
    """True if two inputs are one pair without a batch dimension. Raise unless both are single or equally many."""
    single = left.is_single("x1", x1)
    if single != right.is_single("x2", x2):
        raise ValueError(
            f"x1 and x2 must both be batches or both be single items, got x1 of {describe(x1)} and x2 of "
            f"{describe(x2)}, where items have {left.item_ndim} and {right.item_ndim} dimensions"
        )
    if not single and (size1 := count_items("x1", x1)) != (size2 := count_items("x2", x2)):
        raise ValueError(
            f"x1 and x2 must hold the same number of items, got {size1} (x1 of {describe(x1)}) "
            f"and {size2} (x2 of {describe(x2)})"
        )
    return single


def in_dtype_of(fusion: Fusion, head: nn.Module, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings in the dtype of fusion and head if theirs is narrower, as under autocast."""
    weight = first_parameter(fusion)
    weight = first_parameter(head) if weight is None else weight
    if weight is None or u.dtype == v.dtype == weight.dtype or torch.is_autocast_enabled(weight.device.type):
        return u, v
    for dtype in (u.dtype, v.dtype):
        if torch.promote_types(dtype, weight.dtype) != weight.dtype:
            raise ValueError(
                f"SiameseComparator expects embeddings of the dtype of its fusion and head, got {dtype} embeddings "
                f"and {weight.dtype} weights: use {as_dtype('model', dtype)}, or convert the inputs, as in "
                f"{as_dtype('x1', weight.dtype)}"
            )
    return u.to(weight.dtype), v.to(weight.dtype)
