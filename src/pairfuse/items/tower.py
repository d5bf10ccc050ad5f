"""One side of a comparison: an encoder and how it is called."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pairfuse._checks import as_dtype, check_encoded, check_int
from pairfuse._progress import show_progress
from pairfuse.items.batches import Batch, combine, count_items, describe, tensors
from pairfuse.items.reading import Items, count_batches, read_batches

Side = Literal["left", "right"]

_WIDTH_ATTRIBUTES = ("embedding_dim", "num_features", "out_features")


class Tower(NamedTuple):
    """One side of a comparison: an encoder, its width and its items.

    Attributes:
        encoder: Any module from a batch of B items to embeddings `(B, D)`. A mapping is passed as keyword arguments if
            `forward` takes them; see `takes_keywords`.
        width: Width D of the embeddings.
        item_ndim: The number of dimensions of one item, or None if it is unknown.
    """

    encoder: nn.Module
    width: int
    item_ndim: int | None

    def is_single(self, name: str, x: Batch) -> bool:
        """Return True if `x` is one item without its batch dimension. Always False if `item_ndim` is None."""
        if self.item_ndim is None:
            return False
        ndims = {tensor.ndim for tensor in tensors(name, x)}
        if ndims not in ({self.item_ndim}, {self.item_ndim + 1}):
            raise ValueError(
                f"{name} must have {self.item_ndim + 1} dimensions (a batch of items) or {self.item_ndim} (one item), "
                f"since item_ndim={self.item_ndim}, got {describe(x)}"
            )
        return ndims == {self.item_ndim}

    def encode(self, x: Batch, *, name: str, given: Batch = None) -> Tensor:
        """Embed a batch in the current mode, with gradients.

        Args:
            x: A batch of B items.
            name: The argument that errors name.
            given: The left half of `x`, if `x` joins both sides in one batch. Errors then describe this half.

        Returns:
            Embeddings `(B, width)`.

        Raises:
            TypeError: `x` is not a batch, or the encoder does not return a tensor.
            ValueError: The encoder cannot take `x`, for a known reason, or returns another shape.
        """
        items = count_items(name, x)
        joint, given = given is not None, x if given is None else given
        owner = f"encoder {type(self.encoder).__name__}"
        hint = partial(_hint, self, name, given)  # called only after an error
        keywords = isinstance(x, Mapping) and takes_keywords(self.encoder, x)
        try:
            embeddings: Any = self.encoder(**x) if keywords else self.encoder(x)
        except Exception as error:
            cause = "" if isinstance(error, (torch.OutOfMemoryError, KeyError)) else hint(error)
            if cause and isinstance(error, (RuntimeError, ValueError, TypeError, AttributeError, IndexError)):
                raise ValueError(f"{owner} cannot take {name}: {str(error) or type(error).__name__}{cause}") from error
            note = _joint_note(items, _takes_one_size(self.encoder, error)) if joint else ""
            error.add_note(f"{owner} was given {name}: {describe(given)}{note}")
            raise
        try:
            check_encoded(owner, embeddings, items, self.width, hint)
        except ValueError as error:
            if joint:
                one_size = isinstance(embeddings, Tensor) and embeddings.shape[:1] == (items // 2,)
                error.add_note(f"{owner} was given {name}" + _joint_note(items, one_size))
            raise
        return embeddings  # type: ignore[no-any-return]

    def encode_items(self, name: str, items: Items, *, batch_size: int, progress: bool) -> Tensor:
        """Embed many items, each once, on the encoder's device. The caller sets eval mode and `no_grad`.

        Args:
            name: The argument that errors name.
            items: N items; see `Items`.
            batch_size: Number of items that the encoder gets at a time. A `DataLoader` has its own.
            progress: If True, show a progress bar; needs tqdm.

        Returns:
            Embeddings `(N, width)`.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: There are no items, `items` is a single item, or a loader does not give all items in order.
        """
        batch_size = check_int(f"encoding {name}", "batch_size", batch_size)
        parameter = first_parameter(self.encoder)
        batches = read_batches(name, items, batch_size)
        steps = show_progress(batches, f"encoding {name}", count_batches(items, batch_size)) if progress else batches
        embeddings = []
        for batch, labeled in steps:
            if self.is_single(name, batch):
                whole, advice = (items, f": pass {name}[None]") if isinstance(items, Tensor) else (batch, "")
                raise ValueError(f"{name} must be a batch of items, got one item of {describe(whole)}{advice}")
            if parameter is not None:
                batch = combine(lambda tensor: tensor.to(parameter.device), batch)
            try:
                embeddings.append(self.encode(batch, name=name))
            except Exception as error:
                if labeled:
                    error.add_note(f"the second part of {name} was read as labels; see pairfuse.items.Items")
                raise
        if not embeddings:
            raise ValueError(f"{name} must hold at least one item, got none")
        return embeddings[0] if len(embeddings) == 1 else _join(embeddings)


def takes_keywords(encoder: nn.Module, x: Mapping[Any, Any]) -> bool:
    """Return True if an encoder takes a mapping as keyword arguments, `encoder(**x)`, like a model of transformers.

    This is the case if `forward(**x)` fits the signature and at least one key is the name of a parameter. If `forward`
    is `forward(*args, **kwargs)` and the encoder wraps one module, that module decides.
    """
    try:
        signature = inspect.signature(encoder.forward)
        signature.bind(**x)
    except (TypeError, ValueError):  # does not fit; has no signature
        return False
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    children = list(encoder.children())
    if kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} and len(children) == 1:
        return takes_keywords(children[0], x)
    return any(parameter in x for parameter in signature.parameters)


def declared_width(encoder: nn.Module) -> int | None:
    """Return the width that an encoder declares."""
    widths = (getattr(encoder, attribute, None) for attribute in _WIDTH_ATTRIBUTES)
    return next((width for width in widths if isinstance(width, int)), None)


def last_linear_width(encoder: nn.Module) -> int | None:
    """Return the width of an encoder's last `nn.Linear`. This is a guess, since another layer may run last."""
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    return linears[-1].out_features if linears else None


def require_width(argument: str, encoder: nn.Module, embedding_dim: int | None, of_fusion: int | None) -> int:
    """Return the given width, or the declared one, or that of a given fusion, or a guess."""
    for width in (embedding_dim, declared_width(encoder), of_fusion, last_linear_width(encoder)):
        if width is not None:
            return width
    raise ValueError(
        f"cannot find the width of the embeddings from {argument} {type(encoder).__name__}: it has none of the "
        f"attributes {', '.join(_WIDTH_ATTRIBUTES)}, and no nn.Linear. Pass embedding_dim=... to SiameseComparator, "
        "or a fusion that is built for the width, such as pairfuse.fusions.Product(64)"
    )


def first_parameter(module: nn.Module) -> Tensor | None:
    """Return the floating-point parameter that represents a module's device and dtype."""
    return next((parameter for parameter in module.parameters() if parameter.is_floating_point()), None)


def _join(embeddings: list[Tensor]) -> Tensor:
    """Join all rows. Each batch is freed as soon as it is copied, so memory is not needed twice."""
    joined = embeddings[0].new_empty(sum(map(len, embeddings)), embeddings[0].shape[1])
    embeddings.reverse()
    start = 0
    while embeddings:
        batch = embeddings.pop()
        joined[start : start + len(batch)] = batch
        start += len(batch)
    return joined


def _joint_note(items: int, one_size: bool) -> str:
    note = f", joined with x2 to a batch of {items} items"
    if one_size:
        note += f". If the encoder takes only batches of {items // 2}, pass joint_pass=False to SiameseComparator"
    return note


def _takes_one_size(encoder: nn.Module, error: Exception) -> bool:
    """Return True if an encoder may have failed because it takes batches of one size only."""
    fixed = any(isinstance(module, (torch.fx.GraphModule, torch.jit.ScriptModule)) for module in encoder.modules())
    return fixed or any(words in str(error).lower() for words in ("guard", "batch size", "batch_size"))


def _hint(tower: Tower, name: str, given: Batch, error: Exception | None = None) -> str:
    """Return the probable reason why an encoder cannot take an input, or "" if it is unknown."""
    if isinstance(given, (list, tuple)):
        return (
            f". {name} is {describe(given)}: if the encoder takes only the first, pass that alone (a data set without "
            "its labels); if these are items, stack them with torch.stack"
        )
    wrong_type = isinstance(error, (TypeError, AttributeError))
    if isinstance(given, Mapping):
        if wrong_type and not takes_keywords(tower.encoder, given):
            return (
                f". {name} is {describe(given)}: forward does not take these keys as keyword arguments, nor a mapping"
            )
        ndims = {tensor.ndim for tensor in tensors(name, given)}
        if not wrong_type and tower.item_ndim is None and ndims in ({1}, {3}):
            advice = f"if it is one item, pass item_ndim={ndims.pop()} to SiameseComparator"
            return f". {name} of {describe(given)} was read as a batch of {count_items(name, given)} items: {advice}"
        return ""
    if wrong_type:
        return ""
    if given.dtype == torch.uint8:
        return f". {name} is of dtype uint8: convert images to float in [0, 1] first, as in {name}.float() / 255"
    parameter = first_parameter(tower.encoder)
    of_dtype = any(words in str(error) for words in ("type", "not implemented for"))
    if parameter is not None and of_dtype and given.dtype != parameter.dtype:
        call = "take its real part first" if given.is_complex() else f"use {as_dtype(name, parameter.dtype)}"
        return f". {name} is of dtype {given.dtype}, the encoder of {parameter.dtype}: {call}"
    if tower.item_ndim is None and given.ndim in (1, 3):
        items, *item = given.shape
        return (
            f". {name} of {describe(given)} was read as a batch of {items} items of shape {tuple(item)}: "
            f"if it is one {'image' if given.ndim == 3 else 'item'}, pass item_ndim={given.ndim} to SiameseComparator"
        )
    return ""
