"""The ROC curve of scores: which share of the negative and of the positive pairs each threshold accepts."""

from typing import NamedTuple

import torch
from torch import Tensor


class Sample:
    """The scores of one kind of pairs, in increasing order.

    Args:
        values: Scores `(n,)`, increasing. With counts, the lower ends of bins.
        counts: How many pairs each value stands for. By default 1.
    """

    def __init__(self, values: Tensor, counts: Tensor | None = None) -> None:
        self.values = values
        self.counts = counts
        self._cumulated = None if counts is None else torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self.total = len(values) if counts is None else int(counts.sum())

    def below(self, thresholds: Tensor) -> Tensor:
        """Return the number of scores below each threshold."""
        places = torch.searchsorted(self.values, thresholds.to(self.values))
        return places if self._cumulated is None else self._cumulated[places]

    def first_above(self, value: Tensor) -> float:
        """Return the least score above a value; infinity if there is none."""
        place = int(torch.searchsorted(self.values, value.to(self.values), right=True))
        return float(self.values[place]) if place < len(self.values) else torch.inf

    def last_below(self, value: float) -> float:
        """Return the largest score below a value; minus infinity if there is none."""
        place = int(torch.searchsorted(self.values, self.values.new_tensor(value)))
        return float(self.values[place - 1]) if place else -torch.inf

    def beyond(self, allowed: int) -> Tensor:
        """Return the largest score `()` that more than `allowed` scores reach."""
        wanted = self.total - allowed
        if self._cumulated is None:
            return self.values[wanted - 1]
        return self.values[int(torch.searchsorted(self._cumulated, wanted)) - 1]


class Point(NamedTuple):
    """A threshold, and the shares of negative and positive pairs at or above it."""

    threshold: float
    far: float
    tar: float


class Curve:
    """The corners of the ROC curve of two samples, from the highest threshold down.

    Attributes:
        thresholds: Scores `(L,)`, decreasing. The first one is infinity, where no pair is accepted.
        far: Share of negative pairs with at least that score `(L,)`, in float64.
        tar: Share of positive pairs with at least that score `(L,)`, in float64.
    """

    def __init__(self, negative: Sample, positive: Sample) -> None:
        self.negative, self.positive = negative, positive
        levels = torch.unique(positive.values)  # between two of them the curve is straight
        above = torch.searchsorted(negative.values, levels, right=True)
        gaps = negative.values[above[above < len(negative.values)]]
        corners = torch.unique(torch.cat([levels, gaps, negative.values[:1]])).flip(0)
        accepted = [sample.total - sample.below(corners) for sample in (negative, positive)]
        none = accepted[0].new_zeros(1)
        self._false, self._true = (torch.cat([none, count]).double() for count in accepted)
        self.thresholds = torch.cat([corners.new_full((1,), torch.inf), corners])
        self.far, self.tar = self._false / negative.total, self._true / positive.total

    @property
    def exact(self) -> bool:
        """True if every score is known, not just its bin."""
        return self.negative.counts is None and self.positive.counts is None

    def auc(self) -> float:
        """Return the area under the ROC curve: how often a positive pair scores above a negative one, ties half."""
        area = (self._false.diff() * (self._true[1:] + self._true[:-1])).sum() / 2
        return float(area / (self.negative.total * self.positive.total))

    def auc_error(self) -> float:
        """Return a bound on the error of `auc`: half of the share of pairs of pairs in one bin; 0 if exact."""
        if self.exact:
            return 0.0
        return float((self._false.diff() * self._true.diff()).sum() / 2 / (self.negative.total * self.positive.total))

    def average_precision(self) -> float:
        """Return the mean precision over the positive pairs, each at its own score."""
        precision = self._true[1:] / (self._true[1:] + self._false[1:])
        return float((self._true.diff() * precision).sum() / self.positive.total)

    def equal_error(self) -> tuple[float, float]:
        """Return the rate at which FAR = 1 − TAR, between two corners if necessary, and the nearest threshold."""
        gap = self.far - (1 - self.tar)  # increases from −1 to 1
        k = int(torch.searchsorted(gap, 0.0))
        weight = gap[k - 1] / (gap[k - 1] - gap[k])
        rate = torch.lerp(self.far[k - 1], self.far[k], weight)
        nearest = k - 1 if k > 1 and -gap[k - 1] < gap[k] else k
        return float(rate), self.between(float(self.thresholds[nearest]))

    def at(self, threshold: float) -> Point:
        """Return the shares at a threshold."""
        samples = (self.negative, self.positive)
        far, tar = ((x.total - int(x.below(torch.tensor(threshold, dtype=torch.float64)))) / x.total for x in samples)
        return Point(threshold, far, tar)

    def at_far(self, far: float) -> Point:
        """Return the lowest threshold whose FAR is at most the given one."""
        allowed = int(far * self.negative.total * (1 + 1e-12))
        beyond = self.negative.beyond(allowed)
        following = min(self.negative.first_above(beyond), self.positive.first_above(beyond))
        if following == torch.inf:  # no positive pair scores higher
            following = self.just_above(beyond)
        return self.at(self.between(following))

    def just_above(self, score: Tensor) -> float:
        """Return the next number above a score, in the dtype of the scores."""
        return float(torch.nextafter(score, score.new_tensor(torch.inf)))

    def between(self, threshold: float) -> float:
        """Move a threshold half-way to the next lower score, so that rounding moves no pair across it.

        In bins it stays where it is: at the end of a bin all counts are exact.
        """
        if not self.exact:
            return threshold
        lower = max(self.negative.last_below(threshold), self.positive.last_below(threshold))
        if lower == -torch.inf:
            return threshold
        middle = self.negative.values.new_tensor((lower + threshold) / 2)  # in the dtype of the scores, which compares
        return float(middle) if lower < float(middle) else threshold
