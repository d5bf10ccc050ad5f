"""Linear heads from moments: least squares over all pairs, shrunk towards the unlearned comparison."""

from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse.fusions import Fusion, Stack
from pairfuse.fusions.base import computes_as
from pairfuse.solving.moments import PairMoments, Statistics, moments_of_set
from pairfuse.solving.same_pairs import LabeledSide
from pairfuse.solving.terms import TermPlan

FLOOR = 1e-9  # added to the diagonal, as a share of it
PAIRS = 1024  # fused at a time
SHRINKAGES = (0.001, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 1.0)


class Directions(NamedTuple):
    """Linear scores `f · weight − offset`, one for each shrinkage.

    Attributes:
        weights: `(L, F)`.
        offsets: The score half-way between same and different pairs `(L,)`.
    """

    weights: Tensor
    offsets: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores of pairs `(P, L)`, given their features `(P, F)`."""
        return (features @ self.weights.to(features).mT).double() - self.offsets


def pair_features(fusion: Fusion, rows: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the features of pairs of rows `(n, D)`, given their places: `(P, F)` in float32."""
    parts = zip(torch.split(left, PAIRS), torch.split(right, PAIRS), strict=True)
    return torch.cat([fusion(rows[i], rows[j]).float() for i, j in parts])


def start_directions(fusion: Fusion, gaps: Tensor, spreads: Tensor) -> Tensor:
    """Return the unlearned comparison: one row for each part of a stack, of width F.

    The weights of a part are those of an inner product or a distance, as its declared `feature_means` say. A part that
    declares none, such as one with random projections, gets each feature's own weight, as if features were
    uncorrelated. Additive parts, which cannot tell same from different, get none.

    Args:
        fusion: The fusion.
        gaps: Mean of each feature over same pairs minus that over different pairs `(F,)`.
        spreads: Variance of each feature within the two kinds of pairs `(F,)`.
    """
    parts = fusion.fusions if isinstance(fusion, Stack) and computes_as(fusion, Stack) else [fusion]
    rows, start = [], 0
    for part in parts:
        where = slice(start, start := start + part.out_features)
        means = gaps.new_tensor(part.all_feature_means())
        weights = means[:, 0] - means[:, 1]
        if not bool(weights.any()) and not part.additive:
            weights = gaps[where] / spreads[where]
        if bool(weights.any()):
            row = torch.zeros_like(gaps)
            row[where] = weights
            rows.append(row)
    return torch.stack(rows) if rows else (gaps / spreads)[None]


class Fisher:
    """The least-squares problem of telling same from different pairs, with every amount of shrinkage.

    Minimizes `wᵀWw / 2 − wᵀd + λ/2 · ‖w − c·w0‖²` over w and c: W is the covariance of the features within both kinds
    of pairs, d the difference of their means, w0 the unlearned comparison, and the norm that of the features in units
    of their spread. For λ = 0 it is Fisher's discriminant, which for two classes is weighted least squares over all
    pairs. For λ → ∞ it is the unlearned comparison. A shrinkage s in [0, 1] stands for λ = s / (1 − s).

    Args:
        fusion: The fusion.
        same: Moments over same pairs.
        different: Moments over different pairs.
        prior: Share of same pairs.
    """

    def __init__(self, fusion: Fusion, same: Statistics, different: Statistics, prior: float) -> None:
        self.within = prior * same.covariance + (1 - prior) * different.covariance
        self.gap = same.mean - different.mean
        self.middle = (same.mean + different.mean) / 2
        diagonal = self.within.diagonal()
        self.constant = diagonal <= 1e-12 * (same.gram.diagonal() + different.gram.diagonal())
        typical = diagonal[~self.constant].mean() if not bool(self.constant.all()) else diagonal.new_ones(())
        self.unit = diagonal.clamp_min(float(typical) * 1e-9)
        self.starts = start_directions(fusion, self.gap, self.unit)
        self._system = self.within + FLOOR * torch.diag(self.unit)
        self._penalty = self.penalty(torch.eye(len(self.unit)).to(self.unit))

    def penalty(self, w: Tensor) -> Tensor:
        """Return the gradient of the penalty, for the part of w across the unlearned comparison: `(F, n)`."""
        across = self.starts * self.unit  # (parts, F); parts have no feature in common
        lengths = (across * self.starts).sum(1, keepdim=True)
        return self.unit[:, None] * w - across.mT @ ((across @ w) / lengths)

    def direction(self, shrinkage: float) -> Tensor:
        """Return the weights `(F,)`."""
        if shrinkage == 1:
            inner = self.starts @ self.within @ self.starts.mT
            inner = inner + FLOOR * torch.diag(inner.diagonal().clamp_min(torch.finfo(inner.dtype).tiny))
            within: Tensor = torch.linalg.solve(inner, self.starts @ self.gap)
            return self.starts.mT @ within
        solution: Tensor = torch.linalg.solve(self.matrix(shrinkage), self.gap)
        return solution

    def matrix(self, shrinkage: float) -> Tensor:
        """Return the matrix of the linear system `(F, F)`."""
        return torch.add(self._system, self._penalty, alpha=shrinkage / (1 - shrinkage))

    def condition(self, shrinkage: float) -> float:
        """Return the condition of the matrix, for features in units of their spread; 1 for the unlearned comparison."""
        if shrinkage == 1:
            return 1.0
        unit = self.unit.rsqrt()
        values = torch.linalg.eigvalsh(self.matrix(shrinkage) * unit * unit[:, None])
        return float(values[-1] / values[0].clamp_min(torch.finfo(values.dtype).tiny))

    def directions(self, shrinkages: list[float]) -> Directions:
        """Return the solution for each shrinkage."""
        weights = torch.stack([self.direction(shrinkage) for shrinkage in shrinkages])
        return Directions(weights, weights @ self.middle)


class MomentMethod:
    """Solves a linear head on a separable fusion from the moments of all pairs.

    Args:
        fusion: The fusion.
        prior: Share of same pairs.
        scale: The embeddings are multiplied by it.
        origin: A point near the scaled embeddings.
    """

    name = "least squares over all pairs"
    shrinkages = list(SHRINKAGES)
    refines = False

    def __init__(self, fusion: Fusion, prior: float, scale: float, origin: Tensor) -> None:
        self.plan = TermPlan(fusion, origin)
        self.prior, self.scale = prior, scale
        self.features = fusion.out_features

    def read(self, embeddings: Tensor, labels: Tensor) -> PairMoments:
        """Return the moments of a set of whole identities."""
        return moments_of_set(self.plan, LabeledSide(embeddings, labels, self.scale))

    def prepare(self, rows: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return what `Directions.scores` takes for pairs of embeddings `(n, D)`, given their places."""
        return pair_features(self.plan.fusion, rows * self.scale, left, right)

    def problem(self, moments: PairMoments) -> Fisher:
        """Return the least-squares problem."""
        return Fisher(self.plan.fusion, moments.same_pairs, moments.different_pairs, self.prior)

    def solve(self, moments: PairMoments, shrinkages: list[float]) -> Directions:
        """Return the solution for each shrinkage."""
        return self.problem(moments).directions(shrinkages)

    def unlearned(self) -> None:
        """Return None: this is the solution of the last shrinkage."""

    def condition(self, moments: PairMoments, shrinkage: float) -> float:
        """Return the condition of the linear system."""
        return self.problem(moments).condition(shrinkage)

    def refine(self, moments: PairMoments, shrinkage: float) -> Directions:
        """Return the final solution: the same."""
        return self.solve(moments, [shrinkage])
