"""Fusions by name: `register_fusion`, `make_fusion`, `list_fusions`."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from pairfuse._checks import unknown_name
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.stack import Stack

F = TypeVar("F", bound=type[Fusion])
FusionSpec: TypeAlias = str | Fusion | Sequence["FusionSpec"]

_FUSIONS: dict[str, type[Fusion]] = {}


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def register_fusion(name: str) -> Callable[[F], F]:
    """Register a `Fusion` class under a name, as a class decorator.

    Names ignore case, and `-` and `_` are the same, also in `make_fusion`. A class with the same module and qualified
    name replaces the old one, so you can run a notebook cell again.

    Args:
        name: The name of the class for `make_fusion` and `SiameseComparator`.

    Returns:
        The decorator, which returns the class unchanged.

    Raises:
        TypeError: The decorated object is not a subclass of `Fusion`, or the name is not a non-empty string.
        ValueError: The name belongs to another class.

    Examples:
        >>> import pairfuse as pf
        >>> @pf.register_fusion("doctest-larger")
        ... class Larger(pf.Fusion):
        ...     symmetry, additive, xnor = "symmetric", False, "generic"
        ...     def fuse(self, u, v):
        ...         return u.maximum(v)
        >>> pf.make_fusion("doctest-larger", 8)
        Larger(in_features=8, out_features=8)
    """
    if not isinstance(name, str) or not _key(name):
        raise TypeError(f'register_fusion expects a name, as in @register_fusion("my-fusion"), got {name!r}')

    def register(fusion: F) -> F:
        if not (isinstance(fusion, type) and issubclass(fusion, Fusion)):
            raise TypeError(f"register_fusion expects a subclass of pairfuse.Fusion, got {fusion!r}")
        known = _FUSIONS.get(_key(name), fusion)
        if (known.__module__, known.__qualname__) != (fusion.__module__, fusion.__qualname__):
            raise ValueError(
                f"a fusion is already registered as {_key(name)!r} ({known.__name__}): choose another name for "
                f"{fusion.__name__}"
            )
        _FUSIONS[_key(name)] = fusion
        return fusion

    return register


def list_fusions() -> list[str]:
    """Return the names of all registered fusions, sorted.

    Examples:
        >>> import pairfuse as pf
        >>> "abs-diff" in pf.list_fusions()
        True
    """
    return sorted(_FUSIONS)


def fusion_class(name: str) -> type[Fusion]:
    """Return the class that is registered under a name. The error for an unknown name suggests the nearest."""
    if _key(name) not in _FUSIONS:
        raise unknown_name("fusion", _key(name), list_fusions())
    return _FUSIONS[_key(name)]


def make_fusion(fusion: FusionSpec, in_features: int, **options: Any) -> Fusion:
    """Build a registered fusion, or a stack of several.

    Args:
        fusion: A name of `list_fusions()`; or a list of names and fusions, which becomes a `Stack`.
        in_features: Width D of the embeddings.
        **options: Other arguments of the class, such as `out_features` of `"bilinear"`. For a list only `in2_features`:
            pass other options to its parts, as in `["product", Bilinear(64, 16)]`.

    Returns:
        A new module. Fusions already built inside a list are reused, not copied.

    Raises:
        TypeError: `fusion` is neither a name nor a list, or an option is unknown.
        ValueError: A name is not registered; the error lists the names and suggests the nearest.

    Examples:
        >>> import pairfuse as pf
        >>> pf.make_fusion("bilinear", 64, out_features=16)
        Bilinear(in_features=64, out_features=16, symmetric=False, bias=True)
        >>> pf.make_fusion(["concat", "product"], 64).out_features
        192
    """
    if isinstance(fusion, str):
        cls = fusion_class(fusion)
        signature = inspect.signature(cls)
        try:
            signature.bind(in_features, **options)
        except TypeError as error:
            raise TypeError(f"fusion {fusion!r}: {error}; its signature is {cls.__name__}{signature}") from None
        return cls(in_features, **options)
    if not set(options) <= {"in2_features"} or isinstance(fusion, Fusion):
        raise TypeError(
            f"make_fusion expects a name, or a list with no options but in2_features, got {fusion!r} and {options}"
        )
    return as_fusion(fusion, in_features, options.get("in2_features", in_features))


def as_fusion(spec: FusionSpec, in_features: int, in2_features: int, *, like: Tensor | None = None) -> Fusion:
    """Return the fusion for a name, a fusion, or a list of either. A list becomes a `Stack`.

    A fusion that is built from a name gets the device and dtype of `like`. A given fusion is not changed.
    """
    if isinstance(spec, Fusion):
        return spec
    if isinstance(spec, str):
        options = {} if in2_features == in_features else {"in2_features": in2_features}
        fusion = make_fusion(spec, in_features, **options)
        return fusion if like is None else fusion.to(device=like.device, dtype=like.dtype)
    if isinstance(spec, (list, tuple)):
        return Stack([as_fusion(part, in_features, in2_features, like=like) for part in spec])
    advice = ""
    if isinstance(spec, type) and issubclass(spec, Fusion):
        advice = f": call it first, as in {spec.__name__}({in_features})"
    elif callable(spec):  # another module, or a function
        advice = ": pass a name of pairfuse.list_fusions(), such as 'bilinear', or write a subclass of pairfuse.Fusion"
    raise TypeError(f"fusion must be a pairfuse.Fusion, a registered name, or a list of either, got {spec!r}{advice}")


def registered_name(cls: type) -> str | None:
    """Return the name under which a class is registered; None if it is not."""
    return next((name for name, fusion in _FUSIONS.items() if fusion is cls), None)
