"""What the scores of some rows of the score matrix contribute to a loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse.losses.pairs import Pairs, make_pairs
from pairfuse.losses.processes import gather
from pairfuse.scoring.shares import Share, Term


class Objective(ABC):
    """What the scores of some anchors contribute to a loss.

    Attributes:
        summary_width: How many numbers about each anchor must be known before any share is: 0 for most objectives.
    """

    summary_width = 0

    @abstractmethod
    def share(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> Share:
        """Return the share of some rows of the score matrix, `(n, M)`, given the summary of all rows."""

    def summarize(self, pairs: Pairs, scores: Tensor, rows: slice) -> Tensor:
        """Return the summary of some rows, `(n, summary_width)`."""
        return scores.new_empty(len(scores), 0)

    def sample(self, scores: Tensor) -> Term:
        """Return a term for scores of this shape, to measure its memory: positive pairs only, which take the most."""
        sides = (torch.zeros(size, dtype=torch.int64, device=scores.device) for size in scores.shape)
        pairs = make_pairs(*sides, one_set=False)._replace(one_set=True)
        return partial(self.share, pairs, summary=scores.new_zeros(len(scores), self.summary_width))


@dataclass(frozen=True)
class BalancedBCE(Objective):
    """Binary cross-entropy, half of it over the positive pairs and half over the negative ones."""

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> Share:
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
class Neighbors(Objective):
    """The log-likelihood of an anchor's positive partners together among themselves and an average anchor's negatives.

    Its gradient by a score depends on all scores, but only through two sums of exponentials for each anchor.
    """

    summary_width = 2

    @override
    def summarize(self, pairs: Pairs, scores: Tensor, rows: slice) -> Tensor:
        same, itself = pairs.is_same(rows), pairs.is_self(rows)
        negative = scores.masked_fill(same, -torch.inf).logsumexp(1)
        positive = scores.masked_fill(~same if itself is None else ~same | itself, -torch.inf).logsumexp(1)
        return torch.stack([negative, positive], 1)

    @torch.no_grad()
    def _weigh(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient by each score, and the share of the loss."""
        anchors = pairs.positives > 0
        of_negatives = summary[:, 0].logsumexp(0)
        gaps = (of_negatives - math.log(len(summary)) - summary[:, 1]).masked_fill(~anchors, -torch.inf)
        pull = gaps.sigmoid() / anchors.sum()
        positive = pull[rows, None] * (scores - summary[rows, 1:]).exp()
        same, itself = pairs.is_same(rows), pairs.is_self(rows)
        weights = torch.where(same, -positive, pull.sum() * (scores - of_negatives).exp())
        if itself is not None:
            weights.masked_fill_(itself, 0)
        return weights, nn.functional.softplus(gaps[rows]).sum() / anchors.sum()

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> Share:
        weights, value = self._weigh(pairs, scores, rows, summary)
        weighted = (weights * scores).sum()
        return Share(weighted + (value - weighted.detach()))


@dataclass(frozen=True)
class Softmax(Objective):
    """The log-likelihood of each positive partner of an anchor among itself and all negative ones."""

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> Share:
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
    def share(self, pairs: Pairs, scores: Tensor, rows: slice, summary: Tensor) -> Share:
        with torch.no_grad():
            weights, count = self._weigh(pairs, scores, rows)
        scores = scores - scores.detach().mean(1, keepdim=True)  # more digits; the weights of a row sum to 0
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


class Rows:
    """The rows of the score matrix that this process has, as `reduce_all_pairs` wants them.

    Args:
        objective: What the rows contribute to.
        pairs: Which pairs are positive, for the rows of all processes.
        rows: Which of them are here.
        sizes: How many each process has; None for a single process.
    """

    def __init__(self, objective: Objective, pairs: Pairs, rows: slice, sizes: list[int] | None) -> None:
        self.objective, self.pairs, self.first, self.sizes = objective, pairs, rows.start, sizes
        self.sampled, self.looks = objective, objective.summary_width > 0
        self.summary = torch.empty(rows.stop - rows.start, objective.summary_width, device=pairs.labels.device)

    def look(self, scores: Tensor, rows: slice) -> None:
        """Summarize some rows."""
        self.summary = self.summary.to(scores.dtype)
        self.summary[rows] = self.objective.summarize(self.pairs, scores, self._among_all(rows))

    def finish_look(self) -> None:
        """Gather the summaries of all rows."""
        if self.sizes is not None:
            self.summary = gather(self.summary, self.sizes)

    def share(self, scores: Tensor, rows: slice) -> Share:
        """Return the share of some rows."""
        return self.objective.share(self.pairs, scores, self._among_all(rows), self.summary)

    def _among_all(self, rows: slice) -> slice:
        return slice(self.first + rows.start, self.first + rows.stop)


OBJECTIVES: dict[str, Callable[[float, str], Objective]] = {
    "neighbors": lambda margin, negatives: Neighbors(),
    "softmax": lambda margin, negatives: Softmax(),
    "margin": lambda margin, negatives: Triplets(margin, negatives == "semi-hard"),
    "bce": lambda margin, negatives: BalancedBCE(),
}
