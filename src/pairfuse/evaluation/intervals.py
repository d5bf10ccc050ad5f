"""Confidence intervals that respect that pairs of one identity depend on each other."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Generator, Tensor

from pairfuse.decisions.estimate import Estimate, wilson
from pairfuse.evaluation.table import UnitTable

FEW = 10  # errors or identities, below which an estimate rests on too little
LEVELS = 512  # bins of the resampled curves
LEFT_OUT = 12  # units, at which the variance is wholly that of leaving out one of them
DEFINED = 0.8  # share of the resamples that must have positive and negative pairs
UNKNOWN = (math.nan, math.nan)
LEAST = 1e-4  # share, of which a logit is taken


def t_quantile(confidence: float, freedom: float) -> float:
    """Return the quantile of Student's t that encloses the given share, by the expansion of Cornish and Fisher."""
    freedom = max(freedom, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


class Merged:
    """The table with neighboring bins put together, so that there are at most `LEVELS`.

    Args:
        table: The table.
        middles: A score that stands for each bin `(B,)`.

    Attributes:
        lower: The least score of each level `(L,)`.
        scores: A score that stands for each level `(L,)`.
        negative: Counts of negative pairs `(rows, L)`, float32.
        positive: Counts of positive pairs.
    """

    def __init__(self, table: UnitTable, middles: Tensor) -> None:
        step = math.ceil(table.bins.count / LEVELS)
        starts = torch.arange(0, table.bins.count, step, device=middles.device)
        self.lower, self.scores = table.bins.lower[starts], middles[(starts + step // 2).clamp_max(len(middles) - 1)]
        rest = len(starts) * step - table.bins.count
        self.negative, self.positive = (
            torch.nn.functional.pad(counts, (0, rest)).view(len(counts), len(starts), step).sum(2).float()
            for counts in (table.negative, table.positive)
        )


@dataclass(frozen=True)
class Rates:
    """Shares of the pairs of one kind that reach a score, and how much such a share varies with the identities.

    Attributes:
        lower: Scores `(B,)`, increasing.
        effect: By what factor the variance of the share at each score exceeds that of independent pairs `(B,)`.
        pairs: Number of pairs.
        units: Number of units of equal size that would make the pairs vary as much.
        quantile: Number of standard errors of half an interval.
    """

    lower: Tensor
    effect: Tensor
    pairs: int
    units: float
    quantile: float

    def interval(self, share: float, threshold: float) -> tuple[float, float]:
        """Return the interval of a share at a threshold: Wilson's, with the variance adjusted for the dependence.

        References:
            Fogliato, Patil and Perona, *Confidence Intervals for Error Rates in 1:1 Matching Tasks*, IJCV 2024,
            arXiv:2306.01198.
        """
        bin_ = torch.searchsorted(self.lower, self.lower.new_tensor(threshold), right=True) - 1
        return wilson(share, self.pairs / float(self.effect[int(bin_.clamp_min(0))]), self.quantile)


def rates(table: UnitTable, merged: Merged, counts: Tensor, confidence: float) -> Rates:
    """Return the rates of one kind of pairs from its counts `(rows, levels)`.

    Two pairs depend on each other if they share a unit. The variance is the sum of the products of the deviations of
    all such pairs of pairs. With few units this is often too small, so it is mixed with another estimate, which leaves
    out one unit at a time and is too large, since it counts the noise of single pairs twice. `coverage` in
    tests/benchmarks shows what comes of it.
    """
    reached = counts.double().flip(1).cumsum(1).flip(1)  # counts from each level on
    totals = reached[:, :1]  # pairs of each two units
    pairs = float(totals.sum())
    share = reached.sum(0) / pairs
    different = table.left != table.right

    def products(x: Tensor) -> Tensor:
        """Return the sum of the products over all pairs of pairs that share a unit."""
        return (table.incidence @ x).square().sum(0) - x[different].square().sum(0)

    shared = products(reached - share * totals) / (pairs**2 - products(totals)).clamp_min(1.0)
    others = (reached.sum(0) - table.incidence @ reached) / (pairs - table.incidence @ totals).clamp_min(1.0)
    left_out = (others - others.mean(0)).square().sum(0) * (table.units - 1) / table.units
    mixed = min(1.0, LEFT_OUT / table.units)
    effect = torch.lerp(shared.clamp_min(0), left_out, mixed) / (share * (1 - share) / pairs)
    few = torch.minimum(share, 1 - share) * pairs < FEW
    if bool(few.all()):
        effect = torch.full_like(effect, pairs / min(pairs, table.units))
    else:  # where there are too few errors to see a dependence, the largest that was seen
        effect = torch.where(few, effect[~few].max(), effect)
    units = effective_units(table, counts)
    effect = effect.clamp(1.0, max(1.0, pairs / 2))
    return Rates(merged.lower, effect, int(pairs), units, t_quantile(confidence, units - 1))


class Resamples:
    """The statistics of resampled units: each resample draws as many units as there are, with replacement.

    A pair of units counts as often as the product of how often both were drawn. Each statistic is returned for the
    sample itself, then without each of the G units, then for each resample: `(1 + G + R,)`.

    Args:
        table: The units.
        merged: The counts.
        resamples: How many to draw, R.
        generator: Draws them.
        confidence: Level of the intervals.
        quantile: Number of standard errors of half an interval.
    """

    def __init__(
        self,
        table: UnitTable,
        merged: Merged,
        resamples: int,
        generator: Generator,
        confidence: float,
        quantile: float,
    ) -> None:
        self._units, self.scores = table.units, merged.scores
        drawn = torch.randint(self._units, (resamples, self._units), generator=generator)
        times = torch.zeros(1 + self._units + resamples, self._units, dtype=torch.float32)
        times[: 1 + self._units] = 1  # the sample itself, then without each unit
        times[1 : 1 + self._units].fill_diagonal_(0)
        times[1 + self._units :].scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float32))
        times = times.to(table.left.device)
        weights = times[:, table.left] * times[:, table.right]
        weights = torch.where(table.left == table.right, times[:, table.left], weights)
        self.negative, self.positive = ((weights @ counts).double() for counts in (merged.negative, merged.positive))
        false, true = (x.flip(1).cumsum(1) for x in (self.negative, self.positive))
        self.far, self.tar = (torch.cat([x.new_zeros(len(x), 1), x / x[:, -1:]], 1) for x in (false, true))
        self._precision = true / (true + false)
        self._quantile, self._tail = quantile, (1 - confidence) / 2

    def smooth_interval(self, statistic: Callable[["Resamples"], Tensor], value: float) -> tuple[float, float]:
        """Return the interval of a share that changes little by little, such as an area: normal for its logit."""
        own, _, found = self._split(statistic)
        if found is None:
            return UNKNOWN
        logits = (found - own + value).clamp(LEAST, 1 - LEAST).logit()
        middle = torch.tensor(value, dtype=torch.float64).clamp(LEAST, 1 - LEAST).logit()
        half = self._quantile * logits.std()
        return float((middle - half).sigmoid()), float((middle + half).sigmoid())

    def interval(self, statistic: Callable[["Resamples"], Tensor], value: float) -> tuple[float, float]:
        """Return the interval of a statistic, given its exact value: BCa percentiles, stretched for few units.

        They also fit a statistic that changes in steps, such as the TAR at a FAR, whose threshold jumps.

        References:
            Efron, *Better Bootstrap Confidence Intervals*, JASA 1987. Hesterberg, *What Teachers Should Know About the
            Bootstrap*, The American Statistician 2015, arXiv:1411.5279.
        """
        own, without, found = self._split(statistic)
        if found is None:
            return UNKNOWN
        normal, least = NormalDist(), 1 / (2 * len(found))
        below = float(((found < own).double().mean() + (found <= own).double().mean()) / 2)
        bias = normal.inv_cdf(min(max(below, least), 1 - least))
        skew = without.mean() - without
        acceleration = float(skew.pow(3).sum() / (6 * skew.square().sum().pow(1.5)).clamp_min(1e-300))
        stretched = self._quantile * math.sqrt(self._units / (self._units - 1))
        ends = [bias + z / max(1 - acceleration * z, 0.1) for z in (bias - stretched, bias + stretched)]
        low, high = torch.quantile(found, found.new_tensor([normal.cdf(max(min(z, 8.0), -8.0)) for z in ends])).tolist()
        return low - float(own) + value, high - float(own) + value

    def turned_interval(self, statistic: Callable[["Resamples"], Tensor], value: float) -> tuple[float, float]:
        """Return the basic interval, percentiles turned around the value, for a statistic that noise only increases."""
        own, _, found = self._split(statistic)
        if found is None:
            return UNKNOWN
        high, low = (torch.quantile(found, found.new_tensor([self._tail, 1 - self._tail])) - own).tolist()
        return value - low, value - high

    def _split(self, statistic: Callable[["Resamples"], Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a statistic of the sample, without each unit, and of the resamples; None if many have no value."""
        own, without, found = statistic(self).tensor_split([1, 1 + self._units])
        drawn = len(found)
        found = found[found.isfinite()]
        return own, without[without.isfinite()], found if len(found) > DEFINED * drawn else None

    def auc(self) -> Tensor:
        """Return the areas under the ROC curves."""
        return torch.trapezoid(self.tar, self.far)

    def average_precision(self) -> Tensor:
        """Return the average precisions."""
        known = self.far[:, -1] * self.tar[:, -1]  # NaN without positive or without negative pairs
        return (self.tar.diff(dim=1) * self._precision.nan_to_num(0.0)).sum(1) * known

    def equal_error(self) -> Tensor:
        """Return the rates where FAR = 1 − TAR."""
        gap = self.far + self.tar - 1
        at = (gap >= 0).int().argmax(1, keepdim=True).clamp_min(1)
        before, after = gap.gather(1, at - 1), gap.gather(1, at)
        rate = torch.lerp(self.far.gather(1, at - 1), self.far.gather(1, at), before / (before - after))
        return rate.squeeze(1)

    def tar_at(self, far: float) -> Tensor:
        """Return the TAR where the FAR is the given one, between two levels if necessary."""
        at = (self.far > far).int().argmax(1, keepdim=True).clamp_min(1)
        low, high = self.far.gather(1, at - 1), self.far.gather(1, at)
        return torch.lerp(self.tar.gather(1, at - 1), self.tar.gather(1, at), (far - low) / (high - low)).squeeze(1)

    def means(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means over negative and positive pairs of what each level has `(L, ...)`."""
        return tuple(torch.tensordot(x / x.sum(1, keepdim=True), rows, 1) for x in (self.negative, self.positive))

    def mean_loss(self, of_negative: Tensor, of_positive: Tensor) -> Tensor:
        """Return the mean of a loss that each level has `(L,)`, both kinds of pairs weighing the same."""
        return (self.means(of_negative)[0] + self.means(of_positive)[1]) / 2


def effective_units(table: UnitTable, counts: Tensor) -> float:
    """Return how many units of equal size would make the pairs `(rows, bins)` vary as much as they do."""
    of_units = table.incidence @ counts.sum(1).double()
    return float(of_units.sum() ** 2 / of_units.square().sum())


def note_of(errors: float, units: float) -> str:
    """Return why an estimate rests on too little; empty if it does not."""
    if units < FEW:
        return _counted(units, "identity", "identities")
    return _counted(errors, "error", "errors") if errors < FEW else ""


def _counted(number: float, one: str, several: str) -> str:
    return f"{number:.0f} {one if round(number) == 1 else several}"


def clipped(value: float, interval: tuple[float, float], note: str) -> Estimate:
    """Return an estimate of a figure in [0, 1]."""
    low, high = (min(1.0, max(0.0, x)) for x in ((0.0, 1.0) if math.isnan(interval[0]) else interval))
    return Estimate(value, min(low, value), max(high, value), note)
