"""Reading the fields of a file: each error names the field, what it must be, and what came."""

import math
from collections.abc import Iterable
from typing import Any


def check_fields(owner: str, values: Any, wanted: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return a mapping of names to values. Raise unless it has the wanted fields and no others."""
    if not isinstance(values, dict):
        raise ValueError(f"{owner} must be a mapping of fields, got {type(values).__name__}")
    wanted, optional = set(wanted), set(optional)
    missing, unknown = sorted(wanted - set(values)), sorted(map(str, set(values) - wanted - optional))
    if missing:
        raise ValueError(f"{owner} lacks the fields {', '.join(missing)}")
    if unknown:
        raise ValueError(
            f"{owner} has unknown fields: {', '.join(unknown)}. It may be from a newer version of pairfuse"
        )
    return values


def read_number(owner: str, value: Any, *, low: float = -math.inf, high: float = math.inf, nan: bool = False) -> float:
    """Return a float in [low, high]. Infinity is refused, and NaN unless it is allowed; JSON has null for it."""
    if nan and value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{owner} must be a number, got {value!r:.80}")
    fits = nan if math.isnan(value) else low <= value <= high and abs(value) <= 1e308
    if not fits:
        limits = f" from {low:g} to {high:g}" if high < math.inf else ""
        raise ValueError(f"{owner} must be a finite number{limits}, got {value!r:.80}")
    return float(value)


def without_nan(values: Any) -> Any:
    """Return nested dicts and lists with None in place of NaN, which JSON does not have."""
    if isinstance(values, dict):
        return {name: without_nan(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


def read_count(owner: str, value: Any) -> int:
    """Return a whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{owner} must be a whole number of at least 0, got {value!r:.80}")
    return value


def read_text(owner: str, value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise ValueError(f"{owner} must be a string, got {value!r:.80}")
    return value


def read_numbers(owner: str, value: Any) -> tuple[float, ...]:
    """Return a tuple of finite floats."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{owner} must be a list of numbers, got {value!r:.80}")
    return tuple(read_number(f"{owner}[{i}]", x) for i, x in enumerate(value))
