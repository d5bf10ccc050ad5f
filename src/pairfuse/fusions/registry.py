"""Fusions by name: `register_fusion`, `make_fusion`, `list_fusions`."""

from collections.abc import Callable
from typing import Any, TypeVar

from pairfuse._checks import unknown_name
from pairfuse.fusions.base import Fusion

F = TypeVar("F", bound=type[Fusion])

_FUSIONS: dict[str, type[Fusion]] = {}


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def register_fusion(name: str) -> Callable[[F], F]:
    """Register a `Fusion` class under a name, as a class decorator.

    Upper and lower case, `-` and `_` are the same in a name, here and in `make_fusion`.

    Args:
        name: The name by which `make_fusion` and `SiameseComparator` know the class.

    Returns:
        The decorator, which returns the class unchanged.

    Raises:
        TypeError: What is decorated is not a subclass of `Fusion`, or the name is no name.
        ValueError: The name is taken.

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
        if _key(name) in _FUSIONS:
            raise ValueError(
                f"a fusion is already registered as {_key(name)!r} ({_FUSIONS[_key(name)].__name__}): "
                f"choose another name for {fusion.__name__} (in a notebook, restart the kernel to define it anew)"
            )
        _FUSIONS[_key(name)] = fusion
        return fusion

    return register


def list_fusions() -> list[str]:
    """The names of all registered fusions, sorted.

    Examples:
        >>> import pairfuse as pf
        >>> "abs-diff" in pf.list_fusions()
        True
    """
    return sorted(_FUSIONS)


def make_fusion(name: str, in_features: int, **options: Any) -> Fusion:
    """Build a registered fusion.

    Args:
        name: A name of `list_fusions()`.
        in_features: Width D of the embeddings.
        **options: Whatever else the class takes, such as `out_features` of `"bilinear"`.

    Returns:
        A new module, shared with nobody.

    Raises:
        ValueError: The name is not registered; the error lists the names and suggests the nearest.

    Examples:
        >>> import pairfuse as pf
        >>> pf.make_fusion("bilinear", 64, out_features=16)
        Bilinear(in_features=64, out_features=16, symmetric=False, bias=True)
    """
    if not isinstance(name, str):
        raise TypeError(f"make_fusion expects a name, got {name!r}")
    if _key(name) not in _FUSIONS:
        raise unknown_name("fusion", _key(name), list_fusions())
    return _FUSIONS[_key(name)](in_features, **options)
