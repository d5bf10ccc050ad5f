"""Calibration: from scores to logits of probabilities, at the prior ½."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pairfuse.decisions.fields import check_fields, read_number, read_numbers


@dataclass(frozen=True)
class Platt:
    """`slope * score + intercept` is the logit of the probability that a pair is the same, if half of all pairs are.

    Attributes:
        slope: Above 0, so that the order of the scores stays.
        intercept: The logit of a score of 0.

    References:
        Platt, *Probabilistic Outputs for Support Vector Machines*, 1999.
    """

    slope: float
    intercept: float

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the logits of scores of any shape."""
        return self.slope * scores + self.intercept

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain numbers, for JSON."""
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Isotonic:
    """A line through points, constant beyond their ends: from scores to logits, if half of all pairs are the same.

    Attributes:
        scores: Positions of the points, increasing.
        logits: The logits at the points, not decreasing.

    References:
        Zadrozny and Elkan, *Transforming Classifier Scores into Accurate Multiclass Probability Estimates*, KDD 2002.
    """

    scores: tuple[float, ...]
    logits: tuple[float, ...]

    def __call__(self, scores: Tensor) -> Tensor:
        """Return the logits of scores of any shape."""
        scores = scores if scores.is_floating_point() else scores.double()
        wide = torch.promote_types(scores.dtype, torch.float32)
        numbers = (self.scores, self.logits, (*self._slopes, 0.0))
        points, logits, slopes = (torch.tensor(x, dtype=wide, device=scores.device) for x in numbers)
        x = scores.to(wide).clamp(points[0], points[-1])  # NaN stays NaN
        if torch.compiler.is_exporting():  # ONNX has no searchsorted, which needs no memory for each score and point
            i = (x[..., None] >= points[1:]).sum(-1)
        else:
            i = torch.searchsorted(points[1:], x.contiguous(), right=True)  # the point on the left
        line = logits[i] + slopes[i] * (x - points[i])
        above = torch.cat([logits[1:], logits[-1:]])  # not beyond the next point, by rounding: never decreasing
        return torch.minimum(line, above[i]).to(scores.dtype)

    @property
    def _slopes(self) -> list[float]:
        ends = zip(pairwise(self.scores), pairwise(self.logits), strict=True)
        return [(above - below) / (high - low) for (low, high), (below, above) in ends]

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain numbers, for JSON."""
        return {"method": "isotonic", "scores": list(self.scores), "logits": list(self.logits)}


Calibration = Platt | Isotonic


def calibration_from_dict(values: Any) -> Calibration:
    """Return the calibration that `to_dict` was called on.

    Raises:
        ValueError: A field is unknown or missing, or has a wrong value.
    """
    owner = "the calibration"
    method = values.get("method") if isinstance(values, dict) else None
    if method == "platt":
        check_fields(owner, values, ["method", "slope", "intercept"])
        slope = read_number(f"{owner}'s slope", values["slope"], low=1e-300)
        return Platt(slope, read_number(f"{owner}'s intercept", values["intercept"]))
    if method != "isotonic":
        raise ValueError(f"{owner} must have the method 'platt' or 'isotonic', got {method!r:.80}")
    check_fields(owner, values, ["method", "scores", "logits"])
    scores = read_numbers(f"{owner}'s scores", values["scores"])
    logits = read_numbers(f"{owner}'s logits", values["logits"])
    rises = all(a < b for a, b in pairwise(scores))
    if not (len(scores) == len(logits) >= 1 and rises and list(logits) == sorted(logits)):
        raise ValueError(f"{owner} must have increasing scores and as many logits, which do not decrease")
    return Isotonic(scores, logits)
