"""What a fusion declares: the facts, their values, and the check that they do not contradict each other."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

Symmetry: TypeAlias = Literal["symmetric", "antisymmetric", "none"]
Xnor: TypeAlias = Literal["never", "generic", "always"]

_XNOR_ORDER: tuple[Xnor, ...] = get_args(Xnor)


@dataclass(frozen=True)
class Facts:
    """What is known of a fusion without running it; `fusion.facts()` returns it.

    Attributes:
        fusion: The name of its class.
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`.
        out_features: Width F of the fused features.
        parameters: How many numbers it learns.
        symmetry: `"symmetric"`, `"antisymmetric"` or `"none"`.
        additive: Whether it is a sum `g(u) + h(v)`.
        xnor: Whether one linear layer on it can tell same from different: `"never"`, `"generic"` or `"always"`.
        two_widths: Whether D2 may differ from D.
        fast_path: Whether one matrix product scores all pairs: whether it has `factors`.

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
    """The best of several."""
    return max(facts, key=_XNOR_ORDER.index)


def check_facts(fusion: Any) -> None:
    """Raise unless a fusion, or its class, declares every fact with a value that exists, and without contradiction.

    A fact that is a property of the class is told by the instance: those of a stack are those of its parts.
    """
    owner = fusion.__name__ if isinstance(fusion, type) else type(fusion).__name__
    names = ("symmetry", "additive", "xnor", "xnor_with_sum", "feature_means")
    told: dict[str, Any] = {name: getattr(fusion, name, None) for name in names}
    told = {name: value for name, value in told.items() if not isinstance(value, property)}
    allowed = {"symmetry": get_args(Symmetry), "additive": (True, False), "xnor": _XNOR_ORDER}
    for name, values in allowed.items():
        if name in told and told[name] not in values:
            raise TypeError(
                f"{owner} must declare `{name}` as one of {', '.join(map(repr, values))} "
                f"in its class body (got {told[name]!r})"
            )
    with_sum = told.get("xnor_with_sum")
    if with_sum is not None and with_sum not in _XNOR_ORDER:
        raise TypeError(f"{owner} must declare `xnor_with_sum` as one of {_XNOR_ORDER} (got {with_sum!r})")
    if with_sum is not None and "xnor" in told and best_xnor([with_sum, told["xnor"]]) != with_sum:
        raise TypeError(f"{owner} declares xnor={told['xnor']!r}, so `xnor_with_sum` cannot be less (got {with_sum!r})")
    # A sum has no mixed difference; for an antisymmetric f, f(a, a) = 0 is half-way between f(a, b) and f(b, a).
    for claim, made in {
        "additive=True": told.get("additive") is True,
        "antisymmetry": told.get("symmetry") == "antisymmetric",
    }.items():
        for name in ("xnor", "xnor_with_sum"):
            if made and told.get(name) not in (None, "never"):
                raise TypeError(f"{owner} declares {claim}, so `{name}` must be 'never' (got {told[name]!r})")
    feature_means = told.get("feature_means", (0.0, 0.0))
    if not (isinstance(feature_means, tuple) and len(feature_means) == 2 and all(map(math.isfinite, feature_means))):
        raise TypeError(
            f"{owner} must declare `feature_means` as a tuple of two finite numbers (got {feature_means!r})"
        )
