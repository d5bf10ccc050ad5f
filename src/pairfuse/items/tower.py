"""How a comparator runs an encoder that it knows nothing about: its width, its call, its errors."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._checks import check_encoded
from pairfuse.items.batches import Batch, count_items, describe

_WIDTH_ATTRIBUTES = ("embedding_dim", "num_features", "out_features")


def declared_width(encoder: nn.Module) -> int | None:
    """The width that an encoder tells of itself."""
    widths = (getattr(encoder, attribute, None) for attribute in _WIDTH_ATTRIBUTES)
    return next((width for width in widths if isinstance(width, int)), None)


def last_linear_width(encoder: nn.Module) -> int | None:
    """The width of an encoder's last `nn.Linear`: a guess, since it need not be the last that runs."""
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    return linears[-1].out_features if linears else None


def require_width(argument: str, encoder: nn.Module, embedding_dim: int | None, of_fusion: int | None) -> int:
    """The width that is given, or that the encoder tells, or that a given fusion has, or a guess."""
    for width in (embedding_dim, declared_width(encoder), of_fusion, last_linear_width(encoder)):
        if width is not None:
            return width
    raise ValueError(
        f"cannot tell the width of the embeddings from {argument} {type(encoder).__name__}: it has none of the "
        f"attributes {', '.join(_WIDTH_ATTRIBUTES)}, and no nn.Linear. Pass embedding_dim=... to SiameseComparator, "
        "or a fusion that is built for the width, such as pairfuse.fusions.Product(64)"
    )


def first_parameter(encoder: nn.Module) -> Tensor | None:
    """The floating-point parameter that stands for an encoder's device and dtype."""
    return next((parameter for parameter in encoder.parameters() if parameter.is_floating_point()), None)


def run_encoder(encoder: nn.Module, x: Batch, width: int, *, name: str, given: Batch, item_ndim: int | None) -> Tensor:
    """Embed a batch `x`: `(B, width)`. Errors speak of `given`, which the user passed as `name`."""
    owner = f"encoder {type(encoder).__name__}"
    hint = partial(_hint, encoder, name, given, item_ndim)  # called only where something is wrong
    try:
        embeddings: Any = encoder(x)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # what layers raise for a wrong input
        nested = isinstance(given, (list, tuple))
        cause = hint() if nested or isinstance(error, (RuntimeError, ValueError)) else ""
        if not cause or isinstance(error, torch.OutOfMemoryError):
            error.add_note(f"{owner} was given {name}: {describe(given)}")
            raise
        raise ValueError(f"{owner} cannot take {name}: {error}{cause}") from error
    check_encoded(owner, embeddings, count_items(name, x), width, hint)
    return embeddings  # type: ignore[no-any-return]


def _hint(encoder: nn.Module, name: str, given: Batch, item_ndim: int | None) -> str:
    """What is probably wrong with an input that an encoder could not digest; empty if nothing is known."""
    if isinstance(given, (list, tuple)):
        return (
            f". {name} is {describe(given)}: if the encoder takes only the first, pass that alone (a data set without "
            "its labels); if these are items, stack them with torch.stack"
        )
    if not isinstance(given, Tensor):
        return ""
    if given.dtype == torch.uint8:
        return f". {name} is of dtype uint8: convert images to float in [0, 1] first, as in {name}.float() / 255"
    parameter = first_parameter(encoder)
    if parameter is not None and given.is_floating_point() and given.dtype != parameter.dtype:
        return f". {name} is of dtype {given.dtype}, the encoder of {parameter.dtype}: convert one to the other"
    if item_ndim is None and given.ndim in (1, 3):
        items, *item = given.shape
        return (
            f". {name} of {describe(given)} was read as a batch of {items} items of shape {tuple(item)}: "
            f"if it is one {'image' if given.ndim == 3 else 'item'}, pass item_ndim={given.ndim} to SiameseComparator"
        )
    return ""
