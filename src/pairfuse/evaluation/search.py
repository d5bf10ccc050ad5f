"""`evaluate_search`: how often a search in a gallery of n items finds the right one, and how often a stranger."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from pairfuse._checks import check_int
from pairfuse._modes import eval_mode
from pairfuse._progress import show_progress
from pairfuse._sets import check_threshold
from pairfuse.decisions import Estimate
from pairfuse.decisions.estimate import wilson
from pairfuse.evaluation.build import MAX_BYTES, Settings
from pairfuse.evaluation.intervals import clipped, note_of, t_quantile
from pairfuse.evaluation.pairs import AllPairs
from pairfuse.evaluation.sets import LabeledItems, check_comparator, score_all
from pairfuse.items.reading import Items

PARTNERS = 8  # of a query, at most, that are looked for
SIZES = (10, 100, 1000, 10_000)


@dataclass(frozen=True)
class SearchReport:
    """How well a search works, by the size of the gallery. Made by `evaluate_search`.

    Attributes:
        identified: For each size, how often the query's own item is found: it scores highest and reaches the threshold.
            The gallery holds one other item of the query's identity, all others are strangers.
        false_alarms: For each size, how often at least one stranger reaches the threshold. The gallery holds no item of
            the query's identity.
        threshold: The threshold; minus infinity if there is none, so that only the order counts.
        queries: Number of queries.
        identities: Number of their identities.
        confidence: Level of the intervals.
    """

    identified: dict[int, Estimate]
    false_alarms: dict[int, Estimate]
    threshold: float
    queries: int
    identities: int
    confidence: float

    def __str__(self) -> str:
        """Return a table for people."""
        rows = [("gallery", "own item found first", "a stranger found")]
        rows += [(f"{size:,}", f"{found}", f"{self.false_alarms[size]}") for size, found in self.identified.items()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        head = f"{self.queries:,} queries of {self.identities:,} identities, score ≥ {self.threshold:.4g}"
        return "\n".join([head, "", *(f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)])


@torch.no_grad()
def evaluate_search(
    model: Any,
    items: Items,
    labels: Any,
    *,
    sizes: Sequence[int] | None = None,
    threshold: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    batch_size: int = 256,
    max_bytes: int = MAX_BYTES,
    progress: bool = False,
) -> SearchReport:
    """Judge the search that a user does: one query against a gallery of n items.

    The error rates of single pairs say little about it. A query meets n strangers, so false matches grow with the
    gallery: at a FAR of 0.001, about 63 % of all queries meet a stranger above the threshold among 1,000 items.

    Each labeled item is a query. The strangers of a gallery are drawn from the items of other identities; the rates are
    the exact means over all draws, not simulations. The intervals say how much they vary with the identities of the
    queries.

    Args:
        model: A `SiameseComparator` whose head has one output.
        items: N items, as for `model.score_matrix`.
        labels: Their labels, N integers; -1 means unlabeled and is left out.
        sizes: Numbers of items in the gallery. By default 10, 100, 1,000 and 10,000, if there are enough.
        threshold: The score that counts as a match. By default that of `model.decision`; without one, only the order
            counts, and every search finds a stranger.
        confidence: Level of the intervals.
        seed: For identities with many items: which 8 of the others are looked for.
        batch_size: Number of items that the encoder gets at a time.
        max_bytes: Memory for the scores, without the embeddings.
        progress: If True, show a progress bar.

    Returns:
        The rates for each size.

    Raises:
        TypeError: The model is not a comparator, or an argument is of the wrong kind.
        ValueError: A size is larger than the number of strangers, no identity has two items, or `evaluate` raises it.

    References:
        Grother, Ngan and Hanaoka, *Face Recognition Vendor Test Part 2: Identification*, NISTIR 8271, 2019.

    Examples:
        >>> import torch, pairfuse as pf
        >>> labels = torch.arange(400) % 100
        >>> items = torch.randn(100, 16)[labels] + 0.3 * torch.randn(400, 16)
        >>> model = pf.SiameseComparator(torch.nn.Identity(), "cosine", embedding_dim=16)
        >>> model.decision = pf.evaluate(model, items, labels).decide(far=0.01)
        >>> report = pf.evaluate_search(model, items, labels)
        >>> report.false_alarms[10].value < report.false_alarms[100].value
        True
    """
    settings = Settings("evaluate_search", None, confidence, 20, seed, max_bytes)
    check_comparator("evaluate_search", model)
    given = LabeledItems("evaluate_search", items, labels, None)
    given.units = torch.zeros_like(given.labels)
    decided = model._current_decision("evaluate_search")
    if threshold is not None or decided is not None:
        threshold = check_threshold("evaluate_search", threshold, decided)
    else:
        threshold = -math.inf
    with eval_mode(model) as still:
        pairs = score_all(settings, still, [given], batch_size, progress)
        found = _Search(pairs, threshold, settings.generator, max_bytes, progress)
    least = int(found.strangers.min())
    if least < 1:
        raise ValueError("evaluate_search expects items of at least two identities, got one")
    wanted = [size for size in SIZES if size <= least] if sizes is None else list(sizes)
    for size in wanted:
        if check_int("evaluate_search", "each size", size) > least:
            raise ValueError(
                f"evaluate_search expects sizes of at most {least:,}, the number of strangers that every query has, "
                f"got {size:,}"
            )
    return SearchReport(
        identified={size: _mean(found.identified(size), found.of_partner, confidence) for size in wanted},
        false_alarms={size: _mean(found.false_alarm(size), found.units, confidence) for size in wanted},
        threshold=threshold,
        queries=len(found.strangers),
        identities=len(torch.unique(given.labels)),
        confidence=confidence,
    )


class _Search:
    """For each query and each of its partners, how many strangers score as high.

    Attributes:
        strangers: Number of items of other identities, for each query `(N,)`.
        units: The number of the identity of each query `(N,)`.
        of_partner: The same of each pair of a query and a partner `(P,)`.
    """

    def __init__(self, pairs: AllPairs, threshold: float, generator: Generator, max_bytes: int, progress: bool) -> None:
        left, right = pairs.left, pairs.right
        count = len(left.labels)
        rows = max(1, min(count, max_bytes // (16 * count * (1 + PARTNERS))))
        starts = range(0, count, rows)
        alarms, queries, above, reached = [], [], [], []
        for start in show_progress(starts, "searching", len(starts)) if progress else starts:
            some = slice(start, min(start + rows, count))
            scores = pairs.scores(some, slice(0, count))
            same = left.labels[some, None] == right.labels
            strangers = scores.masked_fill(same, -torch.inf)
            alarms.append((strangers >= threshold).sum(1) if threshold > -torch.inf else (~same).sum(1))
            partners = same & (left.positions[some, None] != right.positions)
            order = torch.rand(partners.shape, generator=generator).to(partners.device).masked_fill(~partners, 2.0)
            drawn = order.topk(min(PARTNERS, count), 1, largest=False)
            query, place = (drawn.values < 2).nonzero(as_tuple=True)
            own = scores[query, drawn.indices[query, place]]
            above.append((strangers[query] >= own[:, None]).sum(1))
            reached.append(own >= threshold)
            queries.append(query + start)
        self.units: Tensor = torch.unique(left.labels, return_inverse=True)[1]
        self.strangers = count - torch.bincount(self.units)[self.units]
        self._alarms, self._above, self._reached = torch.cat(alarms), torch.cat(above), torch.cat(reached)
        self._queries = torch.cat(queries)
        if not len(self._queries):
            raise ValueError("evaluate_search expects an identity with at least two items, got none")
        self.of_partner = self.units[self._queries]

    def false_alarm(self, size: int) -> Tensor:
        """Return the chance of each query that at least one of so many strangers reaches the threshold `(N,)`."""
        return 1 - _none_of(self._alarms, self.strangers, size)

    def identified(self, size: int) -> Tensor:
        """Return the chance of each partner `(P,)` that it comes first, with `size − 1` strangers in the gallery."""
        chance: Tensor = _none_of(self._above, self.strangers[self._queries], size - 1)
        return chance * self._reached


def _none_of(marked: Tensor, total: Tensor, drawn: int) -> Tensor:
    """Return the chance that none of the marked items is among those drawn without replacement: hypergeometric."""
    marked, total = marked.double(), total.double()
    rest = total - marked
    chance = (
        torch.lgamma(rest + 1)
        - torch.lgamma((rest - drawn).clamp_min(0) + 1)
        - torch.lgamma(total + 1)
        + torch.lgamma(total - drawn + 1)
    ).exp()
    return torch.where(rest >= drawn, chance, 0.0)


def _mean(values: Tensor, units: Tensor, confidence: float) -> Estimate:
    """Return the mean with Wilson's interval, its variance from the deviations of whole identities."""
    mean = float(values.mean())
    present, numbers = torch.unique(units, return_inverse=True)
    sums = torch.zeros_like(present, dtype=values.dtype).index_add_(0, numbers, values - mean)
    present = len(sums)
    if present < 2:
        return Estimate(mean, note=f"{present} identities")
    variance = float(sums.square().sum()) / len(values) ** 2 * present / (present - 1)
    independent = mean * (1 - mean) / variance if variance > 0 else present
    errors = min(mean, 1 - mean) * len(values)
    interval = wilson(mean, max(1.0, min(independent, len(values))), t_quantile(confidence, present - 1))
    return clipped(mean, interval, note_of(errors, present))
