"""Builds a report from what was collected."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Generator, Tensor

from pairfuse._checks import check_int, check_probability
from pairfuse.decisions import Calibration, Decision, Platt
from pairfuse.decisions.estimate import Estimate
from pairfuse.evaluation.collect import Collected, Source, collect, count_pairs
from pairfuse.evaluation.curve import Point
from pairfuse.evaluation.intervals import FEW, Merged, Rates, Resamples, clipped, note_of, rates, t_quantile
from pairfuse.evaluation.probabilities import LOSSES, calibration_error, in_bins, weighted_mean
from pairfuse.evaluation.report import Report

Statistic = Callable[[Resamples], Tensor]  # `(1 + G + R,)`, as `Resamples` says
Interval = Callable[[Resamples, Statistic, float], tuple[float, float]]
Loss = Callable[[Tensor], Tensor]

FAR = (1e-3, 1e-2, 1e-1)  # by default, those that the data supports
MAX_BYTES = 512 * 2**20


@dataclass
class Settings:
    """The options that all ways to evaluate share; see `evaluate`."""

    owner: str
    far: Sequence[float] | None
    confidence: float
    resamples: int
    seed: int
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Check them."""
        self.confidence = check_probability(self.owner, "confidence", self.confidence)
        self.resamples = check_int(self.owner, "resamples", self.resamples, least=20)
        self.max_bytes = check_int(self.owner, "max_bytes", self.max_bytes)
        self.generator = Generator().manual_seed(check_int(self.owner, "seed", self.seed, least=None) % 2**63)

    def wanted_far(self, negatives: int) -> list[float]:
        """Return the FARs, from low to high. Raise if one is out of range or too low for the number of pairs."""
        if self.far is None:
            return [far for far in FAR if far * negatives >= 1]
        if isinstance(self.far, (int, float, str)):
            raise TypeError(f"{self.owner} expects far to be a sequence, got {self.far!r}: write far=({self.far!r},)")
        wanted = sorted(check_probability(self.owner, "each far", far) for far in self.far)
        if wanted and wanted[0] * negatives < 1:
            raise ValueError(
                f"{self.owner} expects at least {math.ceil(1 / wanted[0]):,} negative pairs for a FAR of "
                f"{wanted[0]:g}, got {negatives:,}"
            )
        return wanted


def build_report(
    settings: Settings,
    sources: list[Source],
    *,
    units: int,
    items: int,
    identities: int,
    comparison: str = "",
    decision: Decision | None = None,
) -> Report:
    """Return the report of the pairs of all sources together.

    Args:
        settings: The options.
        sources: The pairs.
        units: Number of units or groups of units in them; 0 if unknown, so that there are no intervals.
        items: Number of items, for the report.
        identities: Number of units, for the report.
        comparison: Fusion and head, for the report.
        decision: Calibrates the probabilities.
    """
    wanted = settings.wanted_far(count_pairs(sources)[0])
    found = collect(settings.owner, sources, units, settings.generator, settings.max_bytes)
    figures = _Figures(settings, found, units)
    points = {far: found.curve.at_far(far) for far in wanted}
    eer, eer_threshold = found.curve.equal_error()
    calibration = Platt(1.0, 0.0) if decision is None else decision.calibration
    return Report(
        auc=figures.share(found.curve.auc(), Resamples.auc, eer_threshold),
        average_precision=figures.share(found.curve.average_precision(), Resamples.average_precision, eer_threshold),
        eer=figures.share(eer, Resamples.equal_error, eer_threshold),
        eer_threshold=eer_threshold,
        tar={far: figures.tar(far, point) for far, point in points.items()},
        thresholds={far: point.threshold for far, point in points.items()},
        **{name: figures.loss(calibration, *losses) for name, losses in LOSSES.items()},
        calibration_error=figures.calibration_error(calibration),
        items=items,
        identities=identities,
        negatives=found.curve.negative.total,
        positives=found.curve.positive.total,
        confidence=settings.confidence,
        comparison=comparison,
        _calibration=calibration,
        _curve=found.curve,
        _rates=figures.rates,
    )


class _Figures:
    """Figures with their intervals, by resampling or, with too few errors for that, of Wilson."""

    def __init__(self, settings: Settings, found: Collected, units: int) -> None:
        self._curve, table = found.curve, found.table
        self.rates: tuple[Rates, Rates] | None = None
        self._resamples: Resamples | None = None
        self._without = "1 identity" if units == 1 else ""  # why there is no interval
        if units > 1:
            merged = Merged(table, found.middles)
            counts = (merged.negative, merged.positive)
            self.rates = (
                rates(table, merged, counts[0], settings.confidence),
                rates(table, merged, counts[1], settings.confidence),
            )
            self._units = min(x.units for x in self.rates)
            quantile = t_quantile(settings.confidence, self._units - 1)
            self._resamples = Resamples(
                table, merged, settings.resamples, settings.generator, settings.confidence, quantile
            )

    def share(self, value: float, statistic: Statistic, threshold: float) -> Estimate:
        """Return a figure in [0, 1] that rests on the errors at a threshold."""
        point = self._curve.at(threshold)
        errors = min(point.far * self._curve.negative.total, (1 - point.tar) * self._curve.positive.total)
        return self._estimate(value, statistic, threshold, errors, errors, Resamples.smooth_interval)

    def tar(self, far: float, point: Point) -> Estimate:
        """Return the TAR at a FAR."""
        errors = min(point.tar, 1 - point.tar) * self._curve.positive.total
        accepted = point.far * self._curve.negative.total
        noted = min(errors, accepted)
        return self._estimate(point.tar, lambda x: x.tar_at(far), point.threshold, errors, noted, Resamples.interval)

    def _estimate(
        self, value: float, statistic: Statistic, threshold: float, errors: float, noted: float, interval: Interval
    ) -> Estimate:
        if self.rates is None or self._resamples is None:
            return Estimate(value, note=self._without)
        few = errors < FEW
        found = self.rates[1].interval(value, threshold) if few else interval(self._resamples, statistic, value)
        return clipped(value, found, note_of(noted, self._units))

    def loss(self, calibration: Calibration, of_negative: Loss, of_positive: Loss) -> Estimate:
        """Return the mean of a loss of the logits, both kinds of pairs weighing the same."""
        sides = ((self._curve.negative, of_negative), (self._curve.positive, of_positive))
        means = [float(weighted_mean(sample, partial(_loss_of, loss, calibration))) for sample, loss in sides]
        value = sum(means) / 2
        if self._resamples is None:
            return Estimate(value, note=self._without)
        logits = calibration(self._resamples.scores)
        losses = of_negative(logits), of_positive(logits)
        low, high = self._resamples.interval(lambda x: x.mean_loss(*losses), value)
        note = note_of(FEW, self._units)
        return Estimate(value, low, high, note) if math.isnan(low) else Estimate(value, max(0.0, low), high, note)

    def calibration_error(self, calibration: Calibration) -> Estimate:
        """Return the expected calibration error."""
        sides = (self._curve.negative, self._curve.positive)
        value = float(calibration_error(*(weighted_mean(x, lambda s: in_bins(calibration(s))) for x in sides)))
        if self._resamples is None:
            return Estimate(value, note=self._without)
        rows = in_bins(calibration(self._resamples.scores))
        interval = self._resamples.turned_interval(lambda x: calibration_error(*x.means(rows)), value)
        return clipped(value, interval, note_of(FEW, self._units))


def _loss_of(loss: Loss, calibration: Calibration, scores: Tensor) -> Tensor:
    return loss(calibration(scores))
