"""`Report`: how well scores tell same from different, and `decide`, which chooses a threshold."""

import html
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from pairfuse._checks import check_probability
from pairfuse.decisions import Calibration, Decision, Estimate
from pairfuse.decisions.fields import without_nan
from pairfuse.evaluation.curve import Curve, Point
from pairfuse.evaluation.intervals import FEW, Rates, clipped, note_of
from pairfuse.evaluation.plots import draw_report
from pairfuse.evaluation.probabilities import calibrate


@dataclass(frozen=True, eq=False)
class Report:
    """How well scores tell same from different. Made by `evaluate` and its kin.

    Each figure is an `Estimate` with an interval. The intervals say how much the figure varies with the identities that
    happen to be in the data. They have NaN ends if it is not known which items the pairs have in common.

    `print(report)` shows a table, and `report.plot()` draws it.

    Attributes:
        auc: Area under the ROC curve: how often a positive pair scores above a negative one, ties half.
        average_precision: Mean precision over the positive pairs, with as many negative pairs as there are here.
        eer: Equal error rate: where FAR = 1 − TAR.
        eer_threshold: The threshold nearest to it.
        tar: For each FAR the share of positive pairs that are accepted.
        thresholds: For each FAR its threshold, the lowest one whose FAR is not higher; if scores were counted in bins,
            the lowest end of a bin.
        log_loss: Mean negative log likelihood of the probabilities, if half of all pairs are positive.
        brier: Mean squared error of the probabilities, if half of all pairs are positive.
        calibration_error: Expected calibration error in 15 bins, if half of all pairs are positive.
        items: Number of labeled items; 0 if unknown.
        identities: Number of identities, or of groups if they were given; 0 if unknown.
        negatives: Number of negative pairs.
        positives: Number of positive pairs.
        confidence: Level of the intervals.
        comparison: The fusion and head of the model; empty for scores from elsewhere.
    """

    auc: Estimate
    average_precision: Estimate
    eer: Estimate
    eer_threshold: float
    tar: dict[float, Estimate]
    thresholds: dict[float, float]
    log_loss: Estimate
    brier: Estimate
    calibration_error: Estimate
    items: int
    identities: int
    negatives: int
    positives: int
    confidence: float
    comparison: str
    _calibration: Calibration = field(repr=False)
    _curve: Curve = field(repr=False)
    _rates: tuple[Rates, Rates] | None = field(repr=False)

    @property
    def exact(self) -> bool:
        """True if the figures are exact. Otherwise scores were counted in bins; see `auc_error`."""
        return self._curve.exact

    @property
    def auc_error(self) -> float:
        """How far the AUC may be from that of the scores themselves: 0 if exact. All FAR and TAR are exact."""
        return self._curve.auc_error()

    def at(self, threshold: float) -> tuple[Estimate, Estimate]:
        """Return FAR and TAR at a threshold.

        Args:
            threshold: A score. If the report is not exact, it is moved up to the next end of a bin.

        Examples:
            >>> import torch, pairfuse as pf
            >>> scores, y = torch.tensor([0.1, 0.4, 0.5, 0.9]), torch.tensor([0, 0, 1, 1])
            >>> far, tar = pf.evaluate_scores(scores, y).at(0.4)
            >>> far.value, tar.value
            (0.5, 1.0)
        """
        return self._estimates(self._curve.at(threshold))

    def _estimates(self, point: Point) -> tuple[Estimate, Estimate]:
        if self._rates is None:
            note = "1 identity" if self.identities == 1 else ""
            return Estimate(point.far, note=note), Estimate(point.tar, note=note)
        estimates = []
        for share, rates in zip((point.far, point.tar), self._rates, strict=True):
            errors = round(min(share, 1 - share) * rates.pairs)
            estimates.append(clipped(share, rates.interval(share, point.threshold), note_of(errors, rates.units)))
        return estimates[0], estimates[1]

    def decide(
        self,
        *,
        far: float | None = None,
        eer: bool = False,
        cost: tuple[float, float, float] | None = None,
        precision: float | None = None,
        sure: bool = False,
        prior: float | None = None,
        calibration: str = "platt",
    ) -> Decision:
        """Choose a threshold, by exactly one of four rules. The identities must be new to the model.

        On identities that the model was trained on, scores separate better than on new ones, and the error rates of
        new pairs are several times as high as the decision says. pairfuse cannot see this.

        Args:
            far: The lowest threshold whose FAR is at most this share of negative pairs.
            eer: If True, the threshold where FAR = 1 − TAR.
            cost: `(c_fa, c_miss, prior)`: the threshold where the expected cost is least, if accepting a negative
                pair costs `c_fa`, missing a positive pair costs `c_miss`, and the given share of pairs is positive.
            precision: The lowest threshold where at least this share of the accepted pairs is positive, at `prior`,
                even if one more negative pair is accepted than was seen.
            sure: If True, the *upper* end of the interval of the FAR must be at most `far`.
            prior: Share of pairs that are positive where the model is used. Probabilities are for it. By default ½;
                with `cost`, the prior of the cost.
            calibration: `"platt"`, a logistic function of the score, or `"isotonic"`, any increasing function, for many
                pairs. Both are fitted by scikit-learn on the pairs of this report.

        Returns:
            The decision, for `model.decision`.

        Raises:
            ImportError: scikit-learn is not installed; it is in the extra `data`.
            TypeError: An argument is of the wrong kind, or not exactly one rule is given.
            ValueError: A number is out of range, there are too few negative pairs for the FAR, no threshold fulfills
                the rule, or positive pairs do not score higher than negative ones.

        Examples:
            >>> import torch, pairfuse as pf
            >>> labels = torch.arange(400) % 100
            >>> items = torch.randn(100, 16)[labels] + 0.5 * torch.randn(400, 16)
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "cosine", embedding_dim=16)
            >>> model.decision = pf.evaluate(model, items, labels).decide(far=0.01)
            >>> model.decision.far.value <= 0.01
            True
        """
        rules: dict[str, Any] = {"far": far, "eer": eer or None, "cost": cost, "precision": precision}
        given = [name for name, value in rules.items() if value is not None]
        if len(given) != 1:
            raise TypeError(
                f"decide expects exactly one of far, eer, cost and precision, got {', '.join(given) or 'none'}: "
                "decide(far=0.01) accepts one negative pair in a hundred"
            )
        if sure and far is None:
            raise TypeError("decide expects far if sure=True: only a FAR has an upper limit to keep")
        if cost is not None and prior is not None:
            raise TypeError("decide expects no prior beside cost, which has its own: cost=(c_fa, c_miss, prior)")
        prior = 0.5 if prior is None else check_probability("decide", "prior", prior)
        if calibration not in ("platt", "isotonic"):
            raise ValueError(f"decide expects calibration to be 'platt' or 'isotonic', got {calibration!r}")
        if far is not None:
            point = self._surely(far) if sure else self._curve.at_far(self.check_far("decide", far))
        elif cost is not None:
            point, prior = self._cheapest(cost)
        elif precision is not None:
            point = self._precise(precision, prior)
        else:
            point = self._curve.at(self.eer_threshold)
        estimates = self._estimates(point)
        name = given[0]
        return Decision(
            threshold=point.threshold,
            rule={name: list(cost) if cost is not None else rules[name]},
            far=estimates[0],
            tar=estimates[1],
            calibration=calibrate(self._curve.negative, self._curve.positive, calibration),
            prior=prior,
            confidence=self.confidence,
            identities=self.identities,
            positives=self.positives,
            negatives=self.negatives,
            comparison=self.comparison,
        )

    def check_far(self, owner: str, value: Any) -> float:
        """Return a FAR as a float. Raise unless it is above 0 and below 1 and there are enough pairs for it."""
        far = check_probability(owner, "far", value)
        if far * self.negatives < FEW:
            raise ValueError(
                f"{owner} expects at least {math.ceil(FEW / far):,} negative pairs for a FAR of {far:g}, so that "
                f"{FEW} of them are accepted, got {self.negatives:,}: evaluate more items, or choose a FAR of at least "
                f"{FEW / self.negatives:.2g}"
            )
        return far

    def _surely(self, far: float) -> Point:
        """Return the lowest threshold whose FAR is at most `far` even at the upper end of its interval."""
        far = check_probability("decide", "far", far)
        if self._rates is None:
            raise ValueError("decide expects identities if sure=True: evaluate the scores with groups1 and groups2")
        thresholds, shares = self._curve.thresholds, self._curve.far
        low, high = 0, len(thresholds) - 1  # the limit increases with the FAR
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._rates[0].interval(float(shares[middle]), float(thresholds[middle]))[1] <= far
            low, high = (middle, high) if fits else (low, middle - 1)
        if low == 0:
            least = self._rates[0].interval(0.0, float(thresholds[1]))[1]
            raise ValueError(
                f"decide expects more identities for a FAR that is surely at most {far:g}, got {self.identities:,}: "
                f"even without a false match the upper limit is {least:.2g}"
            )
        return self._curve.at(self._curve.between(float(thresholds[low])))

    def _cheapest(self, cost: Any) -> tuple[Point, float]:
        """Return the point of least expected cost, and the prior."""
        if not isinstance(cost, (tuple, list)) or len(cost) != 3:
            raise TypeError(f"decide expects cost to be (c_fa, c_miss, prior), got {cost!r}")
        false, miss, prior = cost
        for name, value in (("c_fa", false), ("c_miss", miss)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"decide expects {name} of cost to be above 0 and finite, got {value!r}")
        prior = check_probability("decide", "the prior of cost", prior)
        costs = (1 - prior) * false * self._curve.far + prior * miss * (1 - self._curve.tar)
        return self._at_corner(int(costs.argmin())), prior

    def _precise(self, precision: float, prior: float) -> Point:
        """Return the lowest threshold with a precision."""
        precision = check_probability("decide", "precision", precision)
        one_more = (self._curve.far * self.negatives + 1) / (self.negatives + 1)  # no error seen is not no error
        right, wrong = prior * self._curve.tar, (1 - prior) * one_more
        fits = right >= precision * (right + wrong)
        if not bool(fits.any()):
            best = float((right / (right + wrong))[1:].max())
            raise ValueError(
                f"decide expects a precision that some threshold has at prior {prior:g}, got {precision:g}: the "
                f"highest is {best:.3g}"
            )
        return self._at_corner(int(fits.nonzero().max()))

    def _at_corner(self, corner: int) -> Point:
        """Return a corner of the curve. The first one, where nothing is accepted, lies just above all scores."""
        if corner == 0:
            return Point(self._curve.just_above(self._curve.thresholds[1]), 0.0, 0.0)
        return self._curve.at(self._curve.between(float(self._curve.thresholds[corner])))

    def plot(self, figure: Any = None) -> Any:
        """Draw three panels: the DET curve, the scores with the thresholds, and the reliability of the probabilities.

        Args:
            figure: A figure or a subfigure of matplotlib to draw in. By default a new one.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is not installed; it is in the extra `examples`.
        """
        return draw_report(self._curve, self._calibration, self.thresholds, self.eer_threshold, figure)

    def __str__(self) -> str:
        """Return a table for people."""
        rows = [(name, f"{estimate}", further) for name, estimate, further in self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{name:<{widths[0]}}  {text:<{widths[1]}}  {further}".rstrip() for name, text, further in rows]
        return "\n".join([self._headline(), "", *lines, *self._remarks()])

    def _repr_html_(self) -> str:
        cells = [(html.escape(x) for x in (name, f"{estimate}", further)) for name, estimate, further in self._rows()]
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in self._remarks() if remark)
        return f'<p>{html.escape(self._headline())}</p><table style="text-align: left">{rows}</table>{remarks}'

    def _headline(self) -> str:
        of = f" of {self.items:,} items" if self.items else ""
        of += f" of {self.identities:,} identities" if self.identities else ""
        return f"{self.positives:,} positive and {self.negatives:,} negative pairs{of}"

    def _rows(self) -> list[tuple[str, Estimate, str]]:
        """Return the name of each figure, the figure, and its threshold."""
        rows = [("AUC", self.auc, ""), ("average precision", self.average_precision, "")]
        rows += [("EER", self.eer, f"score ≥ {self.eer_threshold:.4g}")]
        rows += [(f"TAR at FAR {far:g}", tar, f"score ≥ {self.thresholds[far]:.4g}") for far, tar in self.tar.items()]
        return [
            *rows,
            ("log loss", self.log_loss, ""),
            ("Brier score", self.brier, ""),
            ("calibration error", self.calibration_error, ""),
        ]

    def _remarks(self) -> list[str]:
        remarks = []
        if not self.identities:
            remarks.append("No intervals: pass the identities of both sides as groups1 and groups2.")
        if not self.exact:
            remarks.append(
                f"Scores were counted in bins: FAR and TAR at these thresholds are exact, the AUC to "
                f"{self.auc_error:.1g}, the other figures to about as much."
            )
        return ["", *remarks] if remarks else []

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers and strings, for JSON."""
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__ if not name.startswith("_")}
        plain = {name: asdict(value) if isinstance(value, Estimate) else value for name, value in shown.items()}
        tar = [
            {"far": far, "threshold": self.thresholds[far], "tar": asdict(estimate)}
            for far, estimate in self.tar.items()
        ]
        del plain["thresholds"]
        found: dict[str, Any] = without_nan({**plain, "tar": tar, "auc_error": self.auc_error})
        return found
