"""How a comparator runs an encoder that it knows nothing about: its width, its call, its errors."""

from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._batches import Batch, count_items, describe, tensors
from pairfuse._checks import check_encoded

_WIDTH_ATTRIBUTES = ("embedding_dim", "num_features", "out_features")


def embedding_width(encoder: nn.Module) -> int | None:
    """The width that an encoder tells of itself, or that of its last `nn.Linear`; None if it tells nothing."""
    for attribute in _WIDTH_ATTRIBUTES:
        width = getattr(encoder, attribute, None)
        if isinstance(width, int):
            return width
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    return linears[-1].out_features if linears else None


def require_width(argument: str, encoder: nn.Module, embedding_dim: int | None, fallback: int | None) -> int:
    """The width that is given, or else that the encoder tells, or else the fallback."""
    for width in (embedding_dim, embedding_width(encoder), fallback):
        if width is not None:
            return width
    raise ValueError(
        f"cannot tell the width of the embeddings from {argument} {type(encoder).__name__}: it has none of the "
        f"attributes {', '.join(_WIDTH_ATTRIBUTES)}, and no nn.Linear. Pass embedding_dim=... to SiameseComparator, "
        "or a fusion that is built for the width, such as pairfuse.fusions.Product(64)"
    )


def run_encoder(encoder: nn.Module, x: Batch, width: int, *, name: str, given: Batch, item_ndim: int | None) -> Tensor:
    """Embed a batch `x`: `(B, width)`. Errors speak of `given`, which the user passed as `name`."""
    try:
        embeddings: Any = encoder(x)
    except (RuntimeError, TypeError, ValueError) as error:  # what torch's layers raise for a type or a shape
        hint = _hint(name, given, item_ndim)
        if not hint or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"encoder {type(encoder).__name__} cannot take {name}: {error}{hint}") from error
    check_encoded(
        f"encoder {type(encoder).__name__}", embeddings, count_items(name, x), width, _hint(name, given, item_ndim)
    )
    return embeddings  # type: ignore[no-any-return]


def _hint(name: str, given: Batch, item_ndim: int | None) -> str:
    """What is probably wrong with an input that an encoder could not digest."""
    if any(tensor.dtype == torch.uint8 and tensor.ndim >= 3 for tensor in tensors(name, given)):
        return f". {name} is of dtype uint8: convert images to float in [0, 1] first, as in {name}.float() / 255"
    if item_ndim is None and isinstance(given, Tensor) and given.ndim in (1, 3):
        items, *item = given.shape
        return (
            f". {name} of {describe(given)} was read as a batch of {items} items of shape {tuple(item)}: "
            f"if it is one {'image' if given.ndim == 3 else 'item'}, pass item_ndim={given.ndim} to SiameseComparator"
        )
    return ""
