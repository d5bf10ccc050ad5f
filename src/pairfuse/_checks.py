"""Checks of arguments that several modules share."""

import math
import operator
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

UNLABELED = -1  # the label of an item that is left out


def check_int(owner: str, argument: str, value: Any, *, least: int | None = 1) -> int:
    """Return `value` as an int. Raise unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{owner} expects {argument} to be an int, got {value!r}")
    number = operator.index(value)  # NumPy's integers too
    if least is not None and number < least:
        raise ValueError(f"{owner} expects {argument} to be at least {least}, got {number}")
    return number


def check_number(owner: str, argument: str, value: Any) -> float:
    """Return `value` as a float. Raise unless it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner} expects {argument} to be a number, got {value!r}")
    return float(value)


def check_positive(owner: str, argument: str, value: Any) -> float:
    """Return `value` as a float. Raise unless it is a finite number above 0."""
    number = check_number(owner, argument, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{owner} expects {argument} to be above 0 and finite, got {value!r}")
    return number


def check_probability(owner: str, argument: str, value: Any) -> float:
    """Return `value` as a float. Raise unless it is a number above 0 and below 1."""
    number = check_number(owner, argument, value)
    if not 0 < number < 1:
        raise ValueError(f"{owner} expects {argument} to be above 0 and below 1, got {value!r}")
    return number


def check_share(owner: str, argument: str, value: Any) -> float:
    """Return `value` as a float; raise unless it is a number in [0, 1]."""
    number = check_number(owner, argument, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{owner} expects {argument} to be in [0, 1], got {value!r}")
    return number


def check_labels(owner: str, labels: Any, items: int | None = None) -> Tensor:
    """Return labels as an int64 tensor `(N,)` of its own on the CPU; raise unless they are integers from -1 on."""
    given = labels.to_numpy() if hasattr(labels, "to_numpy") else labels  # a Series of pandas
    try:
        found = given.detach().clone().cpu() if isinstance(given, Tensor) else torch.tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{owner} expects labels to be integers, one for each item, got {type(labels).__name__}: number other "
            "labels with numpy.unique(labels, return_inverse=True)[1]"
        ) from None
    if found.ndim != 1:
        raise ValueError(f"{owner} expects labels of shape (N,), got shape {tuple(found.shape)}")
    if len(found) == 0:
        raise ValueError(f"{owner} expects labels of at least one item, got none")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"{owner} expects labels of an integer dtype, got {found.dtype}: use labels.long()")
    found = found.long()
    if found.min() < UNLABELED:
        raise ValueError(f"{owner} expects labels of at least -1 (-1 means unlabeled), got {int(found.min())}")
    if items is not None and len(found) != items:
        raise ValueError(f"{owner} expects one label for each item, got {len(found)} labels and {items} items")
    return found


def check_targets(owner: str, y: Any, pairs: int) -> Tensor:
    """Return targets `(B,)`. Raise unless they are 0 and 1, one for each pair, with at least one of each."""
    check_tensor(owner, "y", y)
    if y.shape != (pairs,):
        raise ValueError(f"{owner} expects y of shape ({pairs},), one target for each pair, got shape {tuple(y.shape)}")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"{owner} expects y of 1 (same) and 0 (different), got values from {y.min()} to {y.max()}")
    same = int(y.sum())
    if same in (0, pairs):
        raise ValueError(
            f"{owner} expects y with same and different pairs, got {same} same and {pairs - same} different ones: pass "
            "a batch with both, or leave y out"
        )
    return y  # type: ignore[no-any-return]


def check_module(owner: str, argument: str, value: Any) -> None:
    """Raise unless `value` is a module. A class, a function or the name of a model is not."""
    if not isinstance(value, nn.Module):
        advice = ""
        if isinstance(value, type):
            advice = f": call it first, as in {argument}={value.__name__}(...)"
        elif isinstance(value, str) and argument.endswith("encoder"):
            advice = ": for a model of torchvision, pass pairfuse.encoders.vision_encoder(name)"
        elif callable(value):
            name = getattr(value, "__name__", "<lambda>")
            builds = "" if "<" in name else f", or call it if it builds one, as in {argument}={name}(...)"
            advice = f": wrap it in an nn.Module{builds}"
        raise TypeError(f"{owner} expects {argument} to be an nn.Module, got {value!r}{advice}")


def check_tensor(owner: str, argument: str, value: Any) -> None:
    """Raise unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner} expects {argument} to be a tensor, got {type(value).__name__}: use torch.as_tensor")


def _check_floats(owner: str, u: Any, v: Any) -> None:
    """Raise unless `u` and `v` are floating-point tensors."""
    check_tensor(owner, "u", u)
    check_tensor(owner, "v", v)
    if not (u.is_floating_point() and v.is_floating_point()):
        raise TypeError(f"{owner} expects floating-point embeddings, got u of dtype {u.dtype} and v of dtype {v.dtype}")


def check_embeddings(owner: str, u: Tensor, v: Tensor, in_features: int, in2_features: int) -> None:
    """Raise unless `u` and `v` are float embeddings `(..., D)` with the same leading dimensions."""
    _check_floats(owner, u, v)
    widths_fit = u.shape[-1:] == (in_features,) and v.shape[-1:] == (in2_features,)
    if not widths_fit or u.shape[:-1] != v.shape[:-1]:
        raise ValueError(
            f"{owner} expects u of shape (..., {in_features}) and v of shape (..., {in2_features}) with the same "
            f"leading dimensions, got u of shape {tuple(u.shape)} and v of shape {tuple(v.shape)}"
        )


def check_all_pairs(owner: str, u: Any, v: Any, in_features: int, in2_features: int) -> None:
    """Raise unless `u` and `v` are two sets of float embeddings, `(N, D)` and `(M, D2)`, on one device."""
    _check_floats(owner, u, v)
    if u.ndim != 2 or v.ndim != 2 or (u.shape[1], v.shape[1]) != (in_features, in2_features):
        raise ValueError(
            f"{owner} expects u of shape (N, {in_features}) and v of shape (M, {in2_features}), "
            f"got u of shape {tuple(u.shape)} and v of shape {tuple(v.shape)}"
        )
    if u.device != v.device:
        raise ValueError(f"{owner} expects u and v on one device, got u on {u.device} and v on {v.device}")


def as_dtype(name: str, dtype: torch.dtype) -> str:
    """Return the call that converts a tensor: `x1.float()`."""
    short = {torch.float32: "float", torch.float64: "double", torch.float16: "half", torch.bfloat16: "bfloat16"}
    return f"{name}.{short[dtype]}()" if dtype in short else f"{name}.to({dtype})"


def check_like(owner: str, parameter: Tensor, **tensors: Tensor) -> None:
    """Raise unless tensors, named by their arguments, are on the model's device and their dtype is not wider."""
    for argument, tensor in tensors.items():
        if tensor.device != parameter.device:
            raise ValueError(
                f"{owner} expects {argument} on the model's device, got {argument} on {tensor.device} and the model on "
                f"{parameter.device}"
            )
        if torch.promote_types(tensor.dtype, parameter.dtype) != parameter.dtype:
            raise ValueError(
                f"{owner} expects {argument} of the model's dtype, got {argument} of {tensor.dtype} and the model of "
                f"{parameter.dtype}: convert it, as in {as_dtype(argument, parameter.dtype)}"
            )


def check_top_k(owner: str, k: int, queries: int | None, gallery: int | None, exclude_self: bool) -> None:
    """Raise if a gallery holds fewer than k items for each query, as far as the sizes are known."""
    if exclude_self and None not in (queries, gallery) and queries != gallery:
        raise ValueError(
            f"{owner}: exclude_self=True is for a set with itself, got {queries} queries and a gallery of {gallery}"
        )
    if gallery and k > gallery - exclude_self:
        size = f"the gallery size {gallery}" + (", without the item itself" if exclude_self else "")
        raise ValueError(f"{owner} expects k to be at most {gallery - exclude_self} ({size}), got {k}")


def check_finite(owner: str, **tensors: Tensor) -> None:
    """Raise if a tensor, named by its argument, holds NaN or infinity."""
    for argument, tensor in tensors.items():
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():  # allocates no array of its size
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(f"{owner} expects finite {argument}, got {bad} of {tensor.numel()} values NaN or infinite")


def require_package(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package. If it is missing, the error shows the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{package} is not installed: pip install 'pairfuse[{extra}]'", name=package) from error


def _what_came(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def check_fused(owner: str, fused: Any, leading: torch.Size, out_features: int) -> None:
    """Raise unless `fuse` returned one row of `out_features` for each pair."""
    expected = (*leading, out_features)
    if not isinstance(fused, Tensor) or tuple(fused.shape) != expected:
        raise ValueError(
            f"{owner} has out_features={out_features}, so its fuse must return shape {expected}, got "
            f"{_what_came(fused)}: keep the leading dimensions, and set self.out_features in __init__"
        )


def check_logits(logits: Any, pairs: int) -> None:
    """Raise unless a head returned one logit, or one row of logits, for each pair."""
    fits = isinstance(logits, Tensor) and logits.ndim in (1, 2) and logits.shape[0] == pairs
    if not fits:
        raise ValueError(
            f"head must return logits of shape (B, K) or (B,) with B = {pairs}, got {_what_came(logits)}: "
            "end it with nn.Linear(..., K), without squeezing the batch"
        )


def check_encoded(owner: str, embeddings: Any, items: int, width: int, hint: Callable[[], str]) -> None:
    """Raise unless an encoder returned one row of `width` floating-point features for each of its items."""
    if isinstance(embeddings, Tensor) and tuple(embeddings.shape) == (items, width):
        if not embeddings.is_floating_point():
            raise TypeError(f"{owner} must return floating-point embeddings, got dtype {embeddings.dtype}{hint()}")
        return
    expected = f"{owner} must return embeddings of shape (B, D) = ({items}, {width})"
    if not isinstance(embeddings, Tensor):
        wrap = "wrap the encoder so that it returns one tensor"
        if hasattr(embeddings, "to_tuple"):  # a ModelOutput of transformers
            wrap = "pass pairfuse.encoders.Pooled(encoder), which returns one tensor"
        raise TypeError(
            f"{expected}, got {_what_came(embeddings)}: {wrap}{hint() if isinstance(embeddings, list) else ''}"
        )
    advice = ""
    if embeddings.ndim == 4:
        advice = ": that is a feature map; end the encoder with nn.AdaptiveAvgPool2d(1) and nn.Flatten()"
    elif embeddings.ndim == 3:
        advice = ": that is a sequence; end the encoder with a pooling, such as a mean over dim 1"
    elif embeddings.ndim == 2 and embeddings.shape[0] == items:
        advice = f": pass embedding_dim={embeddings.shape[1]} to SiameseComparator, or build the fusion for that width"
    raise ValueError(f"{expected}, got {_what_came(embeddings)}{advice}{hint()}")


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for an unknown name. It suggests the nearest name and lists all names."""
    known = list(known)
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {kind} {name!r}: {hint}The names are: {', '.join(known)}")
