"""Platt's calibration by Newton's method: from scores to logits, same and different pairs weighing the same."""

import torch
from torch import Tensor

STEPS = 100


def fit_platt(same: Tensor, different: Tensor) -> tuple[float, float]:
    """Return slope and intercept of the logits of scores `(n,)` and `(m,)`, if half of all pairs are the same.

    Targets are smoothed as Platt does it, so that scores that separate the pairs without an error get finite logits.
    The slope is not negative: scores that order the pairs the wrong way round get 0.
    """
    x = torch.cat([same, different]).double()
    middle, spread = x.mean(), x.std(correction=0)
    if len(same) == 0 or len(different) == 0 or not spread > 0:
        return 0.0, 0.0
    x = (x - middle) / spread
    sizes = (len(same), len(different))
    weight = torch.cat([x.new_full((n,), 0.5 / n) for n in sizes])
    target = torch.cat([x.new_full((n,), y) for n, y in zip(sizes, _targets(*sizes), strict=True)])
    design = torch.stack([x, torch.ones_like(x)], 1)
    found = x.new_zeros(2)
    loss = _loss(design, found, target, weight)
    for _ in range(STEPS):
        p = (design @ found).sigmoid()
        gradient = design.mT @ (weight * (p - target))
        hessian = design.mT @ (design * (weight * p * (1 - p))[:, None])
        step = torch.linalg.solve(hessian + 1e-12 * torch.eye(2).to(x), gradient)
        size = 1.0
        while (new := _loss(design, found - size * step, target, weight)) > loss and size > 1e-6:
            size /= 2
        found, gain, loss = found - size * step, loss - new, new
        if gain < 1e-14:
            break
    slope = max(0.0, float(found[0] / spread))
    return slope, float(found[1]) - slope * float(middle) if slope else 0.0


def _targets(same: int, different: int) -> tuple[float, float]:
    return (same + 1) / (same + 2), 1 / (different + 2)


def _loss(design: Tensor, found: Tensor, target: Tensor, weight: Tensor) -> float:
    logits = design @ found
    return float((weight * (torch.nn.functional.softplus(logits) - target * logits)).sum())
