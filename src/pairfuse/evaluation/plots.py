"""A report as a picture: error rates, scores, and how good the probabilities are."""

from typing import Any

import torch
from torch import Tensor

from pairfuse._checks import require_package
from pairfuse.decisions import Calibration
from pairfuse.evaluation.curve import Curve, Sample
from pairfuse.evaluation.probabilities import in_bins, weighted_mean

POINTS = 2000  # of a curve
TICKS = (1e-8, 1e-6, 1e-4, 1e-2, 0.1, 0.5, 0.9, 0.99)  # far enough apart for their labels
NEGATIVE, POSITIVE = "#c0392b", "#1f6fb2"


def draw_report(
    curve: Curve, calibration: Calibration, thresholds: dict[float, float], eer_threshold: float, figure: Any = None
) -> Any:
    """Return a figure of three panels: the DET curve, the scores, and the reliability of the probabilities."""
    if figure is None:
        pyplot: Any = require_package("matplotlib.pyplot", "examples")
        figure = pyplot.figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    draw_det(axes[0], curve, thresholds)
    draw_scores(axes[1], curve, {**{f"FAR {far:g}": t for far, t in thresholds.items()}, "EER": eer_threshold})
    draw_reliability(axes[2], curve, calibration)
    return figure


def draw_det(axis: Any, curve: Curve, thresholds: dict[float, float]) -> None:
    """Draw the share of missed positive pairs against that of accepted negative pairs, on normal-deviate axes.

    References:
        Martin, Doddington, Kamm, Ordowski and Przybocki, *The DET Curve in Assessment of Detection Task Performance*,
        Eurospeech 1997.
    """
    least = [1 / (2 * sample.total) for sample in (curve.negative, curve.positive)]
    places = torch.linspace(0, len(curve.far) - 1, min(POINTS, len(curve.far))).long()
    rates = [x.clamp(low, 1 - low) for x, low in zip((curve.far, 1 - curve.tar), least, strict=True)]
    axis.step(*(_deviate(x[places]).numpy() for x in rates), color="black", where="post")
    for far, threshold in thresholds.items():
        point = curve.at(threshold)
        at = [
            float(_deviate(torch.tensor(max(x, low)))) for x, low in zip((point.far, 1 - point.tar), least, strict=True)
        ]
        axis.plot(*at, "o", color=POSITIVE)
        axis.annotate(f"FAR {far:g}", at, xytext=(5, 5), textcoords="offset points", fontsize="small")
    for ticks, low, name in zip((axis.set_xticks, axis.set_yticks), least, ("x", "y"), strict=True):
        some = [tick for tick in TICKS if tick >= low / 2]
        ticks([float(_deviate(torch.tensor(tick))) for tick in some], [f"{100 * tick:g} %" for tick in some])
        axis.tick_params(name, labelsize="small")
    ends = _deviate(torch.tensor([min(least) / 2, 0.99]))
    axis.plot(ends.tolist(), ends.tolist(), color="0.8", linewidth=1, zorder=0)
    axis.set(title="errors", xlabel="negative pairs accepted (FAR)", ylabel="positive pairs missed (1 − TAR)")
    axis.set_xlim(*_deviate(torch.tensor([least[0] / 2, 0.8])).tolist())
    axis.set_ylim(*_deviate(torch.tensor([least[1] / 2, 0.99])).tolist())


def draw_scores(axis: Any, curve: Curve, thresholds: dict[str, float]) -> None:
    """Draw histograms of the scores of negative and positive pairs, and the thresholds."""
    ends = [x.values[i] for x in (curve.negative, curve.positive) for i in (0, -1)]
    edges = torch.linspace(float(min(ends)), float(max(ends)), 61)
    sides = ((curve.negative, NEGATIVE, "different"), (curve.positive, POSITIVE, "same"))
    for sample, color, name in sides:
        below = sample.below(edges).double()
        below[-1] = sample.total
        axis.stairs((below.diff() / sample.total).numpy(), edges.numpy(), fill=True, alpha=0.5, color=color, label=name)
    top = axis.get_ylim()[1]
    for place, (name, threshold) in enumerate(thresholds.items()):
        axis.axvline(threshold, color="black", linewidth=1, linestyle=":")
        axis.text(threshold, top * (0.98 - 0.07 * place), f" {name}", fontsize="small", va="top")
    axis.set(title="scores", xlabel="score", ylabel="share of the pairs of a kind")
    axis.legend(loc="best", fontsize="small")


def draw_reliability(axis: Any, curve: Curve, calibration: Calibration) -> None:
    """Draw the share of positive pairs against the probability, if half of all pairs are positive."""
    negative, positive = (_bins(sample, calibration) for sample in (curve.negative, curve.positive))
    weight = negative[1] + positive[1]
    some = weight > 0
    predicted, seen = ((negative[0] + positive[0]) / weight)[some], (positive[1] / weight)[some]
    axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    sizes = (300 * weight[some] / weight.sum()).clamp_min(6)
    axis.plot(predicted.numpy(), seen.numpy(), color="black", linewidth=1)
    axis.scatter(predicted.numpy(), seen.numpy(), s=sizes.numpy(), color=POSITIVE, zorder=3)
    axis.set(title="probabilities, half of the pairs same", xlabel="predicted", ylabel="seen", aspect="equal")


def _bins(sample: Sample, calibration: Calibration) -> Tensor:
    return weighted_mean(sample, lambda scores: in_bins(calibration(scores)))


def _deviate(share: Tensor) -> Tensor:
    deviate: Tensor = torch.special.ndtri(share.double())
    return deviate
