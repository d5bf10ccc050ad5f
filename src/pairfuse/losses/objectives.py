"""What the scores of some rows of the score matrix contribute to a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.losses.pairs import Pairs, make_pairs
from pairfuse.scoring.reduction import Share, Term


class Objective(ABC):
    """What the scores of some anchors contribute to a loss."""

    @abstractmethod
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        """Return the share of some rows of the score matrix, `(n, M)`."""

    def sample(self, scores: Tensor) -> Term:
        """Return a term for scores of this shape, to measure its memory: positive pairs only, which take the most."""
        sides = (torch.zeros(size, dtype=torch.int64, device=scores.device) for size in scores.shape)
        return partial(self.share, make_pairs(*sides, one_set=False)._replace(one_set=True))


@dataclass(frozen=True)
class BalancedBCE(Objective):
    """Binary cross-entropy, half of it over the positive pairs and half over the negative ones."""

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        same = pairs.is_same(rows)
        for_positive, for_negative = (
            0.5 / count.sum().clamp(min=1).to(scores.dtype) for count in (pairs.positives, pairs.negatives)
        )
        weight = torch.where(same, for_positive, for_negative)
        itself = pairs.is_self(rows)
        if itself is not None:
            weight.masked_fill_(itself, 0)
        target = same.to(scores.dtype)
        return Share(nn.functional.binary_cross_entropy_with_logits(scores, target, weight, reduction="sum"))


@dataclass(frozen=True)
class Softmax(Objective):
    """The log-likelihood of each positive partner of an anchor among itself and all negative ones."""

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        columns, meant = pairs.partners(rows)  # (n, P)
        negatives = scores.masked_fill(pairs.is_same(rows), -torch.inf).logsumexp(1, keepdim=True)
        negatives = negatives.clamp(min=torch.finfo(scores.dtype).min)  # of an anchor without any
        terms = nn.functional.softplus(negatives - scores.gather(1, columns))
        return Share(terms.where(meant, 0).sum() / pairs.positives.sum())


@dataclass(frozen=True)
class Triplets(Objective):
    """The sum of the triplets above 0 of an anchor is linear in its scores, with weights that count such triplets."""

    margin: float
    semi_hard: bool

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        with torch.no_grad():
            weights, count = self._weigh(pairs, scores, rows)
        return Share((weights * scores).sum() + self.margin * count.to(scores.dtype), count)

    def _weigh(self, pairs: Pairs, scores: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the weight of each score and the number of triplets above 0.

        A negative counts once for each positive score that it comes near, and a positive the same triplets with the
        opposite sign. Positive scores are sorted, so that this takes a binary search and not all triplets.
        """
        columns, meant = pairs.partners(rows)  # (n, P)
        positive, order = scores.gather(1, columns).masked_fill(~meant, torch.inf).sort(1)
        columns = columns.gather(1, order)
        is_same = pairs.is_same(rows)
        reached = torch.searchsorted(positive - self.margin, scores).masked_fill_(is_same, 0)  # (n, M)
        counts = _count_by_rank(reached, columns.shape[1])  # (n, P): negatives that reach each positive
        if self.semi_hard:
            passed = torch.searchsorted(positive, scores, right=True).masked_fill_(is_same, 0)
            counts -= _count_by_rank(passed, columns.shape[1])
            reached -= passed
        weights = reached.to(scores.dtype)
        counts = counts.masked_fill_(~meant.gather(1, order), 0)
        return weights.scatter_add_(1, columns, -counts.to(scores.dtype)), counts.sum()


def _count_by_rank(reached: Tensor, ranks: int) -> Tensor:
    """Of numbers `(n, M)`, count those above 0, above 1, and so on: `(n, ranks)`."""
    histogram = torch.zeros(len(reached), ranks + 1, dtype=torch.int64, device=reached.device)
    histogram.scatter_add_(1, reached, torch.ones_like(reached))
    return histogram.flip(1).cumsum(1).flip(1)[:, 1:]


OBJECTIVES: dict[str, Callable[[float, str], Objective]] = {
    "softmax": lambda margin, negatives: Softmax(),
    "margin": lambda margin, negatives: Triplets(margin, negatives == "semi-hard"),
    "bce": lambda margin, negatives: BalancedBCE(),
}
