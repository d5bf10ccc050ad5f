"""How good the probabilities are: log loss, Brier score and expected calibration error, and how to calibrate scores.

Negative and positive pairs weigh the same everywhere, as if half of all pairs were positive.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pairfuse._checks import require_package
from pairfuse.decisions import Calibration, Isotonic, Platt
from pairfuse.evaluation.curve import Sample

CHUNK = 2**17  # scores at a time
PROBABILITY_BINS = 15
CALIBRATION_LEVELS = 2048  # between which scores are told apart when they are calibrated
KNOTS = 64  # of an isotonic calibration, at most
WRONG_WAY = (
    "decide expects positive pairs to score higher than negative ones, got scores for which they do not: the model "
    "orders the pairs the wrong way round"
)

Losses = dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]
LOSSES: Losses = {  # of the logits of negative and of positive pairs
    "log_loss": (softplus, lambda logits: softplus(-logits)),
    "brier": (lambda logits: logits.sigmoid().square(), lambda logits: (-logits).sigmoid().square()),
}


def weighted_mean(sample: Sample, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean over a sample of a function of its scores; one of `(n,)` → `(n, ...)`."""
    total: Tensor | float = 0.0
    for start in range(0, len(sample.values), CHUNK):
        values = of(sample.values[start : start + CHUNK].double())
        if sample.counts is None:
            total = total + values.sum(0)
        else:
            total = total + torch.tensordot(sample.counts[start : start + CHUNK].double(), values, 1)
    return torch.as_tensor(total / sample.total)


def in_bins(logits: Tensor) -> Tensor:
    """Return for each logit a row with its probability in the column of the probability's bin, and 1 beside it."""
    probability = logits.sigmoid()
    column = (probability * PROBABILITY_BINS).long().clamp_max(PROBABILITY_BINS - 1)
    row = torch.nn.functional.one_hot(column, PROBABILITY_BINS).double()
    return torch.stack([row * probability[:, None], row], 1)  # (n, 2, bins)


def calibration_error(negative: Tensor, positive: Tensor) -> Tensor:
    """Return the expected calibration error from the means `(..., 2, bins)` of `in_bins` over both kinds of pairs."""
    expected = negative[..., 0, :] + positive[..., 0, :]
    return (expected - positive[..., 1, :]).abs().sum(-1) / 2


def calibrate(negative: Sample, positive: Sample, method: str) -> Calibration:
    """Fit a calibration with scikit-learn, both kinds of pairs weighing the same.

    Targets are smoothed as Platt does it, so that scores that separate the pairs without an error get finite logits.
    """
    scores, weights = _levels(negative, positive)
    wrong = weights.new_tensor([1 / (sample.total + 2) for sample in (negative, positive)])[:, None]
    mixed = (1 - wrong) * weights + (wrong * weights).flip(0)  # a little of each kind is taken for the other
    if method == "isotonic":
        isotonic = require_package("sklearn.isotonic", "data").IsotonicRegression()
        share = mixed[1] / mixed.sum(0).clamp_min(1e-300)
        isotonic.fit(scores.numpy(), share.numpy(), sample_weight=mixed.sum(0).numpy())
        fitted = torch.from_numpy(isotonic.predict(scores.numpy()))
        if float(fitted[0]) == float(fitted[-1]):
            raise ValueError(WRONG_WAY)
        return _knots(scores, fitted.clamp(float(wrong[0]), 1 - float(wrong[1])))
    logistic = require_package("sklearn.linear_model", "data").LogisticRegression
    middle, spread = scores.mean(), scores.std().clamp_min(1e-300)
    inputs = ((scores - middle) / spread).repeat(2)[:, None]
    targets = torch.tensor([0, 1]).repeat_interleave(len(scores))
    model = logistic(C=math.inf, tol=1e-10, max_iter=1000).fit(inputs.numpy(), targets.numpy(), mixed.flatten().numpy())
    slope = float(model.coef_[0, 0]) / float(spread)
    if slope <= 0:
        raise ValueError(WRONG_WAY)
    return Platt(slope, float(model.intercept_[0]) - slope * float(middle))


def _levels(negative: Sample, positive: Sample) -> tuple[Tensor, Tensor]:
    """Return some scores `(L,)` and the shares of negative and positive pairs nearest to each `(2, L)`."""
    ranks = torch.linspace(0, 1, CALIBRATION_LEVELS // 2, dtype=torch.float64)
    places = [(ranks * (len(x.values) - 1)).long().to(x.values.device) for x in (negative, positive)]
    both = [x.values[i].cpu() for x, i in zip((negative, positive), places, strict=True)]
    scores = torch.unique(torch.cat(both)).double()
    ends = (scores[1:] + scores[:-1]) / 2
    weights = []
    for sample in (negative, positive):
        below = sample.below(ends.to(sample.values.device)).cpu().double()
        weights.append(torch.cat([below, below.new_tensor([sample.total])]).diff(prepend=below.new_zeros(1)))
    return scores, torch.stack([weight / weight.sum() for weight in weights])


def _knots(scores: Tensor, probability: Tensor) -> Isotonic:
    """Return a calibration through the middles of the steps of an isotonic fit."""
    steps, place = torch.unique_consecutive(probability, return_inverse=True)
    middles = torch.zeros_like(steps).index_add_(0, place, scores) / torch.bincount(place)
    wanted = torch.linspace(0, len(steps) - 1, min(KNOTS, len(steps))).round().long()
    return Isotonic(tuple(middles[wanted].tolist()), tuple(steps[wanted].logit().tolist()))
