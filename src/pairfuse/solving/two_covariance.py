"""The two-covariance model (PLDA) for the fusion `quadratic`: its log-likelihood ratio in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse._checks import UNLABELED

CHUNK = 2048  # items or pairs at a time
LEAST_SHARE = 1e-6  # of the largest variance between identities that the others have at least
SHRINKAGES = (0.001, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95, 1.0)


class Scatter(NamedTuple):
    """Sums over items and identities; those of sets without a common identity add up.

    Attributes:
        items: Number of items `()`.
        identities: Number of identities `()`.
        squares: Sum of the squared sizes of the identities `()`.
        rows: Sum of the items `(D,)`.
        gram: Sum of their products `(D, D)`.
        between: Sum over identities of the products of their sums, divided by their size `(D, D)`.
    """

    items: Tensor
    identities: Tensor
    squares: Tensor
    rows: Tensor
    gram: Tensor
    between: Tensor

    def __add__(self, other: "Scatter") -> "Scatter":  # type: ignore[override]
        """Return the sums over both sets."""
        return Scatter(*(x + y for x, y in zip(self, other, strict=True)))

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean and the covariances within and between identities, by the analysis of variance.

        Variances between identities below a millionth of the largest are set to it: they may come out negative.
        """
        mean = self.rows / self.items
        within = (self.gram - self.between) / (self.items - self.identities).clamp_min(1)
        size = (self.items - self.squares / self.items) / (self.identities - 1)  # of a typical identity
        between = self.between - self.items * mean[:, None] * mean
        between = (between / (self.identities - 1) - within) / size
        values, vectors = torch.linalg.eigh((between + between.mT) / 2)
        largest = values[-1].clamp_min(LEAST_SHARE * within.diagonal().mean())
        values = values.clamp_min(float(LEAST_SHARE * largest))
        return mean, within, vectors * values @ vectors.mT


class Forms(NamedTuple):
    """Quadratic forms `(u − c)ᵀ P (v − c) + ½ (u − c)ᵀ Q (u − c) + ½ (v − c)ᵀ Q (v − c) + constant`, L of them.

    Attributes:
        p: `(L, D, D)`.
        q: `(L, D, D)`.
        centers: `(L, D)`.
        constants: `(L,)`.
        scale: The embeddings are multiplied by it.
    """

    p: Tensor
    q: Tensor
    centers: Tensor
    constants: Tensor
    scale: float

    def scores(self, pairs: "Pairs") -> Tensor:
        """Return the scores of pairs `(P, L)`."""
        found = []
        for p, q, center, constant in zip(self.p, self.q, self.centers, self.constants, strict=True):
            x = pairs.rows * self.scale - center.to(pairs.rows)
            mixed, own = x @ p.to(x), ((x @ q.to(x)) * x).sum(1) / 2
            parts = zip(torch.split(pairs.left, CHUNK), torch.split(pairs.right, CHUNK), strict=True)
            score = torch.cat([torch.linalg.vecdot(mixed[i], x[j]) + own[i] + own[j] for i, j in parts])
            found.append(score.double() + constant)
        return torch.stack(found, 1)


class Pairs(NamedTuple):
    """Pairs of some embeddings `(n, D)`, given their places."""

    rows: Tensor
    left: Tensor
    right: Tensor


def log_likelihood_ratio(within: Tensor, between: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return P, Q and the constant of the log-likelihood ratio of "same" against "different", for centered embeddings.

    Items are normal around the mean of their identity with covariance `within`, and these means are normal around 0
    with covariance `between`. With T the sum of both and A = (T − B T⁻¹ B)⁻¹ the ratio is
    `½ uᵀQu + ½ vᵀQv + uᵀPv + ½ log det T − ½ log det A⁻¹` with `Q = T⁻¹ − A` and `P = A B T⁻¹`.

    References:
        Brümmer and de Villiers, *The speaker partitioning problem*, Odyssey 2010.
    """
    total = within + between
    inverse = torch.linalg.inv(total)
    rest = total - between @ inverse @ between
    a = torch.linalg.inv((rest + rest.mT) / 2)
    p = a @ between @ inverse
    q = inverse - a
    constant = (torch.linalg.slogdet(total)[1] - torch.linalg.slogdet(rest)[1]) / 2
    return (p + p.mT) / 2, (q + q.mT) / 2, constant


def towards_identity(covariance: Tensor, shrinkage: float) -> Tensor:
    """Return a covariance shrunk towards the multiple of the identity of equal trace."""
    size = covariance.diagonal().mean().clamp_min(1e-12)
    spherical = torch.diag(size.expand(len(covariance)))
    return torch.lerp(covariance, spherical, max(shrinkage, 1e-6))


class TwoCovarianceMethod:
    """Solves `quadratic` as the two-covariance model. A shrinkage of 1 makes both covariances spherical.

    Args:
        scale: The embeddings are multiplied by it.
        origin: A point near the scaled embeddings, for accuracy.
    """

    name = "two-covariance model"
    shrinkages = list(SHRINKAGES)
    refines = False

    def __init__(self, scale: float, origin: Tensor) -> None:
        self.scale, self.origin = scale, origin
        self.features = len(origin)

    def read(self, embeddings: Tensor, labels: Tensor) -> Scatter:
        """Return the sums over a set of whole identities."""
        order = (labels != UNLABELED).nonzero()[:, 0]
        _, identity, sizes = torch.unique(labels[order], return_inverse=True, return_counts=True)
        order, identity = order[by := identity.argsort(stable=True)], identity[by]
        width = embeddings.shape[1]
        new = self.origin.new_zeros
        gram, sums = new(width, width), new(len(sizes), width)
        for some, ids in zip(torch.split(order, CHUNK), torch.split(identity, CHUNK), strict=True):
            x = embeddings[some.to(embeddings.device)].double() * self.scale - self.origin
            gram.addmm_(x.mT, x)
            sums.index_add_(0, ids.to(x.device), x)
        n = sizes.to(gram)
        items = n.sum()
        return Scatter(
            items, items.new_tensor(float(len(n))), n.square().sum(), sums.sum(0), gram, (sums / n[:, None]).mT @ sums
        )

    def prepare(self, rows: Tensor, left: Tensor, right: Tensor) -> Pairs:
        """Return what `Forms.scores` takes for pairs of embeddings `(n, D)`, given their places."""
        return Pairs(rows.float(), left, right)

    def solve(self, scatter: Scatter, shrinkages: list[float]) -> Forms:
        """Return the solution for each shrinkage."""
        mean, *covariances = scatter.covariances()
        ratios = [log_likelihood_ratio(*(towards_identity(x, s) for x in covariances)) for s in shrinkages]
        p, q, constants = (torch.stack(x) for x in zip(*ratios, strict=True))
        return Forms(p, q, (mean + self.origin).expand(len(p), -1), constants, self.scale)

    def refine(self, scatter: Scatter, shrinkage: float) -> Forms:
        """Return the final solution: the same."""
        return self.solve(scatter, [shrinkage])

    def condition(self, scatter: Scatter, shrinkage: float) -> float:
        """Return the condition of the covariance within identities."""
        return float(torch.linalg.cond(towards_identity(scatter.covariances()[1], shrinkage)))

    def unlearned(self) -> Forms:
        """Return the fusion as it is built: the negative squared distance, divided by D."""
        width = len(self.origin)
        p = torch.eye(width).to(self.origin)[None] * (2 / width)
        return Forms(p, -p, torch.zeros_like(self.origin)[None], p.new_zeros(1), self.scale)
