"""Heads on fusions that are not separable: logistic regression on drawn pairs."""

import copy
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from pairfuse._checks import UNLABELED
from pairfuse.fusions import Fusion
from pairfuse.solving.calibrating import fit_platt
from pairfuse.solving.held_out import draw_different
from pairfuse.solving.linear import SHRINKAGES, Directions, Fisher, pair_features
from pairfuse.solving.moments import Statistics
from pairfuse.solving.sums import pairs_within

PAIRS = 4096  # whose products are added at a time
READ = 4096  # pairs whose embeddings are read at a time
MAX_NUMBERS = 2**27  # features of all drawn pairs, in float32
STEPS = 60


class Drawn(NamedTuple):
    """Features of drawn pairs. Those of sets without a common identity add up.

    Attributes:
        same: `(n, F)`, float32.
        different: `(m, F)`, float32.
    """

    same: Tensor
    different: Tensor

    def __add__(self, other: "Drawn") -> "Drawn":  # type: ignore[override]
        """Return the pairs of both sets."""
        return Drawn(torch.cat([self.same, other.same]), torch.cat([self.different, other.different]))


class DrawnPairsMethod:
    """Solves a linear head on any fusion, on all same pairs and as many drawn different ones.

    Shrinkage is chosen by least squares on these pairs, and the convex logistic problem is solved with the chosen one.

    Args:
        fusion: The fusion.
        prior: Share of same pairs, in the least squares.
        scale: The embeddings are multiplied by it.
        generator: Draws the pairs.
        pairs_per_item: The largest number of pairs of each kind that are drawn, for each item of a set.
    """

    name = "logistic regression on drawn pairs"
    shrinkages = list(SHRINKAGES)
    refines = True

    def __init__(self, fusion: Fusion, prior: float, scale: float, generator: Generator, pairs_per_item: float) -> None:
        self.fusion = copy.deepcopy(fusion).double().eval().requires_grad_(False)
        self.prior, self.scale = prior, scale
        self.features = fusion.out_features
        self.generator, self.pairs_per_item = generator, pairs_per_item

    def read(self, embeddings: Tensor, labels: Tensor) -> Drawn:
        """Return the pairs of a set of whole identities."""
        order = (labels != UNLABELED).nonzero()[:, 0]
        _, identity, sizes = torch.unique(labels[order], return_inverse=True, return_counts=True)
        order = order[identity.argsort(stable=True)]
        i, j = pairs_within(sizes)
        if len(i) > (most := max(1, int(self.pairs_per_item * len(order)))):
            some = torch.randperm(len(i), generator=self.generator)[:most]
            i, j = i[some], j[some]
        if self.fusion.symmetry != "symmetric":
            swapped = torch.rand(len(i), generator=self.generator) < 0.5
            i, j = torch.where(swapped, j, i), torch.where(swapped, i, j)
        k, m = draw_different(sizes, max(len(i), 1), self.generator)
        return Drawn(self._features(embeddings, order[i], order[j]), self._features(embeddings, order[k], order[m]))

    def prepare(self, rows: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return what `Directions.scores` takes for pairs of embeddings `(n, D)`, given their places."""
        return pair_features(self.fusion, rows * self.scale, left, right)

    def _features(self, embeddings: Tensor, left: Tensor, right: Tensor) -> Tensor:
        places = torch.arange(len(left), device=embeddings.device)
        found = []
        for some in torch.split(places, READ):
            at = torch.cat([left[some.cpu()], right[some.cpu()]]).to(embeddings.device)
            rows = embeddings[at].double() * self.scale
            found.append(pair_features(self.fusion, rows, places[: len(some)], places[: len(some)] + len(some)))
        return torch.cat(found)

    def problem(self, drawn: Drawn) -> Fisher:
        """Return the least-squares problem."""
        statistics = []
        for x in drawn:
            mean = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
            gram = mean.new_zeros(len(mean), len(mean))
            for some in torch.split(x, PAIRS):
                rows = some.double()
                mean += rows.sum(0)
                gram.addmm_(rows.mT, rows)
            statistics.append(Statistics(len(x), mean / max(1, len(x)), gram / max(1, len(x))))
        same, different = statistics
        return Fisher(self.fusion, same, different, self.prior)

    def solve(self, drawn: Drawn, shrinkages: list[float]) -> Directions:
        """Return the least-squares solution for each shrinkage."""
        return self.problem(drawn).directions(shrinkages)

    def unlearned(self) -> None:
        """Return None: this is the solution of the last shrinkage."""

    def condition(self, drawn: Drawn, shrinkage: float) -> float:
        """Return the condition of the linear system."""
        return self.problem(drawn).condition(shrinkage)

    def refine(self, drawn: Drawn, shrinkage: float) -> Directions:
        """Return the logistic solution, with the least-squares one as the start."""
        problem = self.problem(drawn)
        start = problem.direction(shrinkage)
        if shrinkage < 1:
            start = fit_logistic(drawn, problem, start, shrinkage / (1 - shrinkage))
        return Directions(start[None], (start @ problem.middle)[None])


def fit_logistic(drawn: Drawn, problem: Fisher, start: Tensor, strength: float) -> Tensor:
    """Return the weights `(F,)` that minimize the logistic loss, by L-BFGS. Same and different pairs weigh the same.

    The penalty is that of `Fisher`, times the mean slope of the logistic function at the start: so the same strength
    shrinks as much.
    """
    scores = [(x @ start.float()).double() for x in drawn]
    slope, intercept = fit_platt(*scores)
    share = float(sum((p := (slope * s + intercept).sigmoid()).mul(1 - p).mean() for s in scores) / 2)
    unit = problem.unit.sqrt()
    middle = problem.middle
    parameters = torch.cat([slope * start * unit, (slope * (start @ middle) + intercept)[None]]).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=STEPS, history_size=20, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    same, different = (x - middle.float() for x in drawn)

    def closure() -> Tensor:
        optimizer.zero_grad()
        w = parameters[:-1] / unit
        z = [(x @ w.float()).double() + parameters[-1] for x in (same, different)]
        across = problem.penalty(w[:, None])[:, 0]
        loss = (softplus(-z[0]).mean() + softplus(z[1]).mean()) / 2 + share * strength / 2 * (w @ across)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (parameters.detach()[:-1] / unit).detach()
