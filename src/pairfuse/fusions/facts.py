"""The facts that a fusion declares, and the check that they are valid and consistent."""

import math
from dataclasses import dataclass, fields
from inspect import getattr_static
from typing import Any, Literal, TypeAlias, get_args

Symmetry: TypeAlias = Literal["symmetric", "antisymmetric", "none"]
Xnor: TypeAlias = Literal["never", "generic", "always"]

_XNOR_ORDER: tuple[Xnor, ...] = get_args(Xnor)


@dataclass(frozen=True)
class Facts:
    """The facts of a fusion, known without running it; `fusion.facts()` returns them.

    Attributes:
        fusion: The name of its class.
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`.
        out_features: Width F of the fused features.
        parameters: Number of learned values.
        symmetry: `"symmetric"`, `"antisymmetric"` or `"none"`.
        additive: True if it is a sum `g(u) + h(v)`.
        xnor: When one linear layer on it can tell same from different: `"never"`, `"generic"` or `"always"`.
        two_widths: True if D2 may differ from D.
        fast_path: True if one matrix product scores all pairs.

    Examples:
        >>> import pairfuse as pf
        >>> print(pf.make_fusion("bilinear", 64, symmetric=True).facts())
        fusion        Bilinear
        in_features   64
        in2_features  64
        out_features  1
        parameters    4097
        symmetry      symmetric
        additive      no
        xnor          generic
        two_widths    no
        fast_path     yes
    """

    fusion: str
    in_features: int
    in2_features: int
    out_features: int
    parameters: int
    symmetry: Symmetry
    additive: bool
    xnor: Xnor
    two_widths: bool
    fast_path: bool

    def __str__(self) -> str:
        words = {True: "yes", False: "no"}
        rows = {f.name: getattr(self, f.name) for f in fields(self)}
        return "\n".join(f"{k:12}  {words[v] if isinstance(v, bool) else v}" for k, v in rows.items())


def best_xnor(facts: list[Xnor]) -> Xnor:
    """Return the best of several."""
    return max(facts, key=_XNOR_ORDER.index)


def check_facts(fusion: Any, *, built: bool = True) -> None:
    """Raise unless a fusion declares every fact with a valid value and without contradiction.

    With `built=False`, facts that are computed from its parameters are not checked.
    """
    owner = type(fusion).__name__
    names = ("symmetry", "additive", "xnor", "xnor_with_sum", "feature_means")
    derived = [name for name in names if isinstance(getattr_static(fusion, name, None), property)]
    facts: dict[str, Any] = {name: getattr(fusion, name, None) for name in names if built or name not in derived}
    allowed = {"symmetry": get_args(Symmetry), "additive": (True, False), "xnor": _XNOR_ORDER}
    for name, values in allowed.items():
        if name in facts and facts[name] not in values:
            raise TypeError(
                f"{owner} must declare `{name}` as one of {', '.join(map(repr, values))} "
                f"in the class body that defines fuse (got {facts[name]!r})"
            )
    xnor, with_sum = facts["xnor"], facts["xnor_with_sum"]
    if with_sum is not None and with_sum not in _XNOR_ORDER:
        raise TypeError(f"{owner} must declare `xnor_with_sum` as one of {_XNOR_ORDER} (got {with_sum!r})")
    if with_sum is not None and best_xnor([with_sum, xnor]) != with_sum:
        raise TypeError(f"{owner} declares xnor={xnor!r}, so `xnor_with_sum` cannot be less (got {with_sum!r})")
    # A sum has no mixed difference; for an antisymmetric f, f(a, a) = 0 is half-way between f(a, b) and f(b, a).
    for claim, made in {
        "additive=True": facts.get("additive") is True,
        "antisymmetry": facts["symmetry"] == "antisymmetric",
    }.items():
        for name in ("xnor", "xnor_with_sum"):
            if made and facts[name] not in (None, "never"):
                raise TypeError(f"{owner} declares {claim}, so `{name}` must be 'never' (got {facts[name]!r})")
    means = facts["feature_means"]
    if not (isinstance(means, tuple) and len(means) == 2 and all(map(math.isfinite, means))):
        raise TypeError(f"{owner} must declare `feature_means` as a tuple of two finite numbers (got {means!r})")
