"""Which shrinkage is best on held-out identities, and how its scores become probabilities."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pairfuse.solving.calibrating import fit_platt
from pairfuse.solving.held_out import HeldOut, Placements


class Solution(Protocol):
    """Scores of pairs, for several shrinkages."""

    def scores(self, pairs: Any) -> Tensor:
        """Return the scores `(P, L)` of pairs as `Method.prepare` returns them."""
        ...


class Method(Protocol):
    """A way to solve: sums over sets of identities, which add up, and a solution for each shrinkage from them."""

    name: str
    shrinkages: list[float]
    features: int
    refines: bool  # True if `refine` gives another solution than `solve`

    def read(self, embeddings: Tensor, labels: Tensor) -> Any:
        """Return the sums over a set of whole identities."""
        ...

    def prepare(self, rows: Tensor, left: Tensor, right: Tensor) -> Any:
        """Return pairs of embeddings `(n, D)`, given their places, in the form that solutions score."""
        ...

    def solve(self, sums: Any, shrinkages: list[float]) -> Any:
        """Return the solution for each shrinkage."""
        ...

    def refine(self, sums: Any, shrinkage: float) -> Any:
        """Return the final solution for one shrinkage."""
        ...

    def condition(self, sums: Any, shrinkage: float) -> float:
        """Return the condition of what is solved."""
        ...

    def unlearned(self) -> Any:
        """Return the fusion as it is built, if that is not the solution of the last shrinkage; otherwise None."""
        ...


class Fold(NamedTuple):
    """A part of the identities: their sums, and pairs of their items."""

    sums: Any
    held: HeldOut
    pairs: Any


class Choice(NamedTuple):
    """What held-out identities say.

    Attributes:
        place: Which shrinkage is chosen; the number of shrinkages stands for the fusion as it is built.
        path: The area under the ROC curve of each shrinkage; then of the fusion as it is built.
        gain_error: Standard error of the gain of the chosen one over the unlearned comparison.
        slope: Of the logits over the scores.
        intercept: Of the logits.
    """

    place: int
    path: list[float]
    gain_error: float
    slope: float
    intercept: float


def total(parts: list[Any]) -> Any:
    """Return the sums over several parts."""
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found


def choose(
    method: Method, folds: list[Fold], shrinkages: list[float], *, forced: bool, calibrated: bool = True
) -> Choice:
    """Choose the shrinkage by the area under the ROC curve on each fold's identities, solved from all other folds.

    Of all shrinkages that are as good as the best, but for one standard error of the difference, the strongest is
    chosen. The unlearned comparison comes last, so it stays unless held-out identities clearly speak against it.

    Args:
        method: How to solve.
        folds: At least two.
        shrinkages: Increasing.
        forced: If True, the first one is chosen.
        calibrated: If False, slope and intercept are 1 and 0.
    """
    placements, scores, trains = Placements(), [], []
    built = method.unlearned()
    for k, fold in enumerate(folds):
        train = total([other.sums for m, other in enumerate(folds) if m != k])
        solutions = [method.solve(train, shrinkages), *([] if built is None else [built])]
        found = torch.cat([x.scores(fold.pairs) for x in solutions], 1)
        placements.add(found, fold.held)
        scores.append(found)
        trains.append(train)
    auc = placements.auc()
    best = int(auc.argmax())
    fine = auc >= auc[best] - placements.error_of_gain(best)
    place = 0 if forced else int(fine.nonzero().max())
    gain_error = float(placements.error_of_gain(len(auc) - 1)[place])
    if not calibrated:
        return Choice(place, auc.tolist(), gain_error, 1.0, 0.0)
    final = []
    for fold, train, found in zip(folds, trains, scores, strict=True):
        refined = place < len(shrinkages) and method.refines
        final.append(method.refine(train, shrinkages[place]).scores(fold.pairs)[:, 0] if refined else found[:, place])
    return Choice(place, auc.tolist(), gain_error, *fit_platt(*by_kind(final, folds)))


def by_kind(scores: list[Tensor], folds: list[Fold]) -> tuple[Tensor, Tensor]:
    """Return the scores of all same and of all different pairs, given those of the pairs of each fold `(P,)`."""
    parts = [x.tensor_split([fold.held.same]) for x, fold in zip(scores, folds, strict=True)]
    same, different = (torch.cat(x) for x in zip(*parts, strict=True))
    return same, different
