"""A figure with its confidence interval."""

import math
from dataclasses import dataclass
from typing import Any

from pairfuse.decisions.fields import check_fields, read_number, read_text


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval. `float(estimate)` is the figure.

    Attributes:
        value: The figure.
        low: The lower end of the interval; NaN if there is none.
        high: The upper end of the interval; NaN if there is none.
        note: Why the figure rests on too little to be printed, such as "3 errors"; empty if it does not.

    Examples:
        >>> import pairfuse as pf
        >>> print(pf.evaluation.Estimate(0.9312, 0.9121, 0.9478))
        0.931 [0.912, 0.948]
        >>> print(pf.evaluation.Estimate(0.0002, 0.00001, 0.00121, note="2 errors"))
        at most 0.00121 (2 errors)
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""

    def __float__(self) -> float:
        """Return the figure without its interval."""
        return self.value

    def __str__(self) -> str:
        """Return the figure and its interval, to two digits of its half width; only the interval if there is a note."""
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.4g}" + (f" ({self.note})" if self.note else "")
        half = (self.high - self.low) / 2
        digits = min(max(2, 1 - math.floor(math.log10(half))), 9) if half > 0 else 4
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        if not self.note:
            return f"{self.value:.{digits}f} [{low}, {high}]"
        if "error" in self.note and self.low < self.high / 10:
            return f"at most {high} ({self.note})"
        if "error" in self.note and 1 - self.high < (1 - self.low) / 10:
            return f"at least {low} ({self.note})"
        return f"between {low} and {high} ({self.note})"

    @classmethod
    def from_dict(cls, owner: str, values: Any) -> "Estimate":
        """Return the estimate whose fields are in a mapping; `owner` names it in errors."""
        check_fields(owner, values, ["value", "low", "high", "note"])
        numbers = {
            name: read_number(f"{owner}.{name}", values[name], low=0, high=1, nan=True)
            for name in ("value", "low", "high")
        }
        return cls(**numbers, note=read_text(f"{owner}.note", values["note"]))


def wilson(share: float, trials: float, quantile: float) -> tuple[float, float]:
    """Return the score interval of a share that was seen in a number of independent trials.

    For dependent trials pass their effective number: the independent trials that would have the same variance.

    Args:
        share: The share of successes.
        trials: The number of trials, above 0.
        quantile: Half of the width of the interval in standard errors, such as 1.96.

    References:
        Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 1927.
    """
    z2 = quantile**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
