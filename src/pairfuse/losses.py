"""Losses over all pairs of a batch, scored through the fusion and the head."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_int, check_like, check_positive, check_tensor, unknown_name
from pairfuse._layers import check_rows_apart
from pairfuse.comparator import SiameseComparator
from pairfuse.items.tower import first_parameter
from pairfuse.scoring import MAX_BYTES
from pairfuse.scoring.reduction import Share, Term, reduce_all_pairs

__all__ = ["AllPairsLoss"]

Negatives = Literal["all", "semi-hard"]
UNLABELED = -1
MARGIN = 1.0


class AllPairsLoss(nn.Module):
    r"""A loss over all pairs of a batch of labeled items: B encoded items train on B² pairs.

    Every pair is scored through the fusion and the head, as `model.score_embeddings` does. Pairs of equal labels are
    positive, all others negative; an item is never paired with itself. With `s_ij` the score of items i and j, P(i) the
    positive partners of i and N(i) the negative ones, the objectives are:

    - `"softmax"`: the mean, over all anchors i that have a positive partner, of
      `log Σ_{a ≠ i} exp(s_ia) − mean_{p ∈ P(i)} s_ip`. This is the supervised contrastive loss (Khosla et al., 2020);
      with one positive partner each, it is InfoNCE (van den Oord et al., 2018). There is no temperature, because the
      head has a learned scale.
    - `"margin"`: triplets `max(0, margin − s_ip + s_in)` of every anchor with all its positive and negative partners
      (Schroff et al., 2015). The mean is over the triplets that are above 0. With `negatives="semi-hard"`, only
      negatives with `s_ip − margin < s_in < s_ip` count.
    - `"bce"`: binary cross-entropy on the scores as logits. Half of the loss is the mean over all positive pairs, the
      other half the mean over all negative pairs.

    The scores stay logits of "the same", but only `"bce"` trains them as probabilities. After the other two, choose a
    threshold on data.

    Memory does not grow with the number of pairs. If all pairs fit into `max_bytes`, the loss is an ordinary
    computation. Otherwise the pairs are scored tile by tile, and the gradients of each tile are computed at once, in
    the forward pass: the loss and its gradients are the same up to rounding. Then it has no second derivatives, and
    parts of the fusion or head whose results depend on the whole batch raise an error: batch norm and dropout in train
    mode, and backward hooks. Forward hooks are called once for each tile.

    The model is not a submodule of the loss: `loss.parameters()` is empty. Train `model.parameters()`.

    Args:
        model: The comparator; its head must have one output.
        objective: `"softmax"`, `"margin"` or `"bce"`. The default is provisional: a benchmark on unseen identities
            will decide it.
        margin: The margin of `"margin"`, in units of the score; by default 1.
        negatives: `"all"` or `"semi-hard"`, for `"margin"`; by default all.
        max_bytes: Memory for scores and what they are computed from, besides the embeddings and all gradients.

    Shape:
        - embeddings: `(B, D)`, from `model.encode(x)`
        - labels: `(B,)`, integers; −1 is an unlabeled item, which is left out of all pairs. If an item is known to
          be none of the others, give it a label of its own.
        - embeddings2, labels2: `(B2, D2)`, `(B2,)`
        - Output: a scalar, in float32 or the wider dtype of the embeddings

    Raises:
        TypeError: The model is not a comparator, the embeddings are not floating-point, or the labels not integers.
        ValueError: The objective is unknown, the margin is not above 0, shapes do not fit, the batch has no positive or
            no negative pair, the head has several outputs, or the budget is too small.

    References:
        - van den Oord, Li and Vinyals, *Representation Learning with Contrastive Predictive Coding*, 2018,
          arXiv:1807.03748.
        - Khosla et al., *Supervised Contrastive Learning*, NeurIPS 2020, arXiv:2004.11362.
        - Schroff, Kalenichenko and Philbin, *FaceNet: A Unified Embedding for Face Recognition and Clustering*, CVPR
          2015, arXiv:1503.03832.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "product")
        >>> loss = pf.losses.AllPairsLoss(model, objective="margin")
        >>> x, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> loss(model.encode(x), labels).backward()
    """

    model: SiameseComparator

    def __init__(
        self,
        model: SiameseComparator,
        *,
        objective: str = "softmax",
        margin: float | None = None,
        negatives: Negatives | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__()
        if not isinstance(model, SiameseComparator):
            inner = next((name for name in ("module", "_orig_mod") if hasattr(model, name)), None)
            advice = f": pass the comparator inside it, model.{inner}" if inner else ""
            raise TypeError(
                f"AllPairsLoss expects model to be a SiameseComparator, got {type(model).__name__}{advice}"
            )
        if objective not in _OBJECTIVES:
            raise unknown_name("objective", objective, _OBJECTIVES)
        for name, value in (("margin", margin), ("negatives", negatives)):
            if value is not None and objective != "margin":
                raise ValueError(f"AllPairsLoss takes {name} with objective='margin' only, got {objective!r}")
        if negatives not in (None, *get_args(Negatives)):
            raise unknown_name("kind of negatives", negatives, get_args(Negatives))
        margin = MARGIN if margin is None else check_positive("AllPairsLoss", "margin", margin)
        vars(self)["model"] = model  # not registered: its parameters are the model's alone
        self.objective = objective
        self.margin = margin
        self.negatives = negatives or "all"
        self.max_bytes = check_int("AllPairsLoss", "max_bytes", max_bytes)

    @override
    def forward(
        self, embeddings: Tensor, labels: Tensor, embeddings2: Tensor | None = None, labels2: Tensor | None = None
    ) -> Tensor:
        """Return the loss of one set with itself, or of two sets.

        Args:
            embeddings: Left embeddings.
            labels: Their labels.
            embeddings2: Right embeddings, which a model with two encoders needs. Without `labels2` they are of the same
                items in the same order, and items are not paired with themselves.
            labels2: The labels of other items on the right, such as documents for queries. Then every pair counts.
        """
        model = self.model
        if embeddings2 is None:
            if labels2 is not None:
                raise ValueError("AllPairsLoss expects embeddings2 with labels2, got labels2 alone")
            if not model.tied:
                raise ValueError(
                    "AllPairsLoss expects embeddings2 from the right encoder, because this model has two: "
                    "loss(model.encode(x), labels, model.encode(x, side='right'))"
                )
        u, v = embeddings, embeddings if embeddings2 is None else embeddings2
        _check_embeddings(model, u, v)
        labels = _check_labels("labels", labels, "embeddings", u)
        if labels2 is None and len(v) != len(u):
            raise ValueError(
                f"AllPairsLoss expects labels2 where embeddings2 are of other items, got {len(u)} embeddings and "
                f"{len(v)} embeddings2 without labels2"
            )
        one_set = labels2 is None
        labels2 = labels if labels2 is None else _check_labels("labels2", labels2, "embeddings2", v)
        u, labels = _labeled(u, labels)
        v, labels2 = _labeled(v, labels2)
        pairs = make_pairs(labels, labels2, one_set=one_set)
        _check_pairs(pairs)
        objective = _OBJECTIVES[self.objective](self.margin, self.negatives)
        term = partial(objective.share, pairs)
        return reduce_all_pairs(model.fusion, model.head, u, v, term, objective.sample, max_bytes=self.max_bytes)

    @override
    def extra_repr(self) -> str:
        options = f", margin={self.margin}, negatives={self.negatives!r}" if self.objective == "margin" else ""
        return f"objective={self.objective!r}{options}, max_bytes={self.max_bytes}"


def _check_embeddings(model: SiameseComparator, u: Tensor, v: Tensor) -> None:
    """Raise unless both are sets of embeddings that the model can score."""
    fusion = model.fusion
    for name, x, width in (("embeddings", u, fusion.in_features), ("embeddings2", v, fusion.in2_features)):
        check_tensor("AllPairsLoss", name, x)
        if not x.is_floating_point():
            raise TypeError(f"AllPairsLoss expects floating-point {name}, got dtype {x.dtype}")
        if x.ndim != 2 or x.shape[1] != width:
            raise ValueError(
                f"AllPairsLoss expects {name} of shape (B, {width}), as model.encode returns them, got "
                f"{tuple(x.shape)}"
            )
    if u.device != v.device:
        raise ValueError(
            f"AllPairsLoss expects embeddings and embeddings2 on one device, got {u.device} and {v.device}"
        )
    parameter = first_parameter(nn.ModuleList([fusion, model.head]))
    if parameter is not None:
        check_like("AllPairsLoss", parameter, embeddings=u, embeddings2=v)
    check_rows_apart("AllPairsLoss", model.head)


def _check_labels(name: str, labels: Tensor, of: str, embeddings: Tensor) -> Tensor:
    """Return integer labels on the device of the embeddings; raise unless there is one for each."""
    check_tensor("AllPairsLoss", name, labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"AllPairsLoss expects {name} to be integers, got dtype {labels.dtype}: use {name}.long()")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"AllPairsLoss expects {name} of shape ({len(embeddings)},), one for each of the {of}, got shape "
            f"{tuple(labels.shape)}"
        )
    return labels.to(embeddings.device, torch.int64)


def _labeled(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the unlabeled items."""
    labeled = labels != UNLABELED
    return (x, labels) if labeled.all() else (x[labeled], labels[labeled])


class Pairs(NamedTuple):
    """Which of the pairs of N left and M right items are positive, and which count.

    Attributes:
        labels: `(N,)`.
        labels2: `(M,)`.
        one_set: If True, pairs (i, i) do not count.
        order: The right items sorted by label, `(M,)`.
        starts: Where the right items of the label of each left item begin in that order, `(N,)`.
        same: How many there are, with the item itself, `(N,)`.
    """

    labels: Tensor
    labels2: Tensor
    one_set: bool
    order: Tensor
    starts: Tensor
    same: Tensor

    @property
    def positives(self) -> Tensor:
        """The number of positive partners of each left item, `(N,)`."""
        return self.same - int(self.one_set)

    @property
    def negatives(self) -> Tensor:
        """The number of negative partners of each left item, `(N,)`."""
        return len(self.labels2) - self.same

    def is_same(self, rows: slice) -> Tensor:
        """Return where labels are equal, the item itself included: `(n, M)`."""
        return self.labels[rows, None] == self.labels2

    def is_self(self, rows: slice) -> Tensor | None:
        """Return where an item meets itself, `(n, M)`, if that happens."""
        if not self.one_set:
            return None
        items, others = torch.arange(rows.start, rows.stop), torch.arange(len(self.labels2))
        return items.to(self.labels)[:, None] == others.to(self.labels)

    def partners(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the columns of the positive partners, `(n, P)`, and which of these entries are meant."""
        most = int(self.same[rows].max())
        ranks = torch.arange(most, device=self.labels.device)
        meant = ranks < self.same[rows, None]
        columns = self.order[(self.starts[rows, None] + ranks).clamp(max=len(self.order) - 1)]
        if self.one_set:
            meant &= columns != torch.arange(rows.start, rows.stop).to(columns)[:, None]
        return columns, meant


def make_pairs(labels: Tensor, labels2: Tensor, *, one_set: bool) -> Pairs:
    """Sort the labels of both sides into pairs."""
    ordered, order = labels2.sort(stable=True)
    starts = torch.searchsorted(ordered, labels)
    return Pairs(labels, labels2, one_set, order, starts, torch.searchsorted(ordered, labels, right=True) - starts)


def _check_pairs(pairs: Pairs) -> None:
    """Raise unless there are positive pairs and negative ones, and an anchor with both."""
    positives, negatives = pairs.positives > 0, pairs.negatives > 0
    has_positives, has_negatives, has_both = torch.stack(
        [positives.any(), negatives.any(), (positives & negatives).any()]
    ).tolist()
    if has_positives and has_both:
        return
    items, identities = len(pairs.labels), len(pairs.labels.unique())
    if not has_positives:
        other = "" if pairs.one_set else f" and {len(pairs.labels2)} others, of which none has the label of a left one"
        raise ValueError(
            f"AllPairsLoss expects a positive pair, two items with one label, got {items} labeled items of "
            f"{identities} identities{other}: build batches with several items of each identity"
        )
    came = "several identities, but no item with both a positive and a negative partner"
    if not has_negatives:
        came = f"{items} labeled items of one identity"
    raise ValueError(f"AllPairsLoss expects items of at least two identities, got {came}")


class Objective(Protocol):
    """What the scores of some anchors contribute to a loss."""

    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        """Return the share of some rows of the score matrix, `(n, M)`."""

    def sample(self, scores: Tensor) -> Term:
        """Return what takes the most memory for scores of this shape."""


class _Sampled:
    """An objective that can be tried on a few scores, half of which are of positive pairs."""

    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        raise NotImplementedError

    def sample(self, scores: Tensor) -> Term:
        sides = (torch.arange(size, device=scores.device) % 2 for size in scores.shape)
        return partial(self.share, make_pairs(*sides, one_set=False)._replace(one_set=True))


@dataclass(frozen=True)
class _BalancedBCE(_Sampled):
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
class _Softmax(_Sampled):
    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        same, itself = pairs.is_same(rows), pairs.is_self(rows)
        others = scores
        if itself is not None:
            same &= ~itself
            others = scores.masked_fill(itself, -torch.inf)
        positives = pairs.positives[rows]
        mean = torch.where(same, scores, 0).sum(1) / positives.clamp(min=1)
        terms = torch.where(positives > 0, others.logsumexp(1) - mean, 0)
        return Share(terms.sum() / (pairs.positives > 0).sum())


@dataclass(frozen=True)
class _Triplets(_Sampled):
    """The sum of the triplets above 0 of an anchor is linear in its scores, with weights that count such triplets."""

    margin: float
    semi_hard: bool

    @override
    def share(self, pairs: Pairs, scores: Tensor, rows: slice) -> Share:
        with torch.no_grad():
            weights, count = self._weigh(pairs, scores, rows)
        return Share((weights * scores).sum() + self.margin * count, count)

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


_OBJECTIVES: dict[str, Callable[[float, str], Objective]] = {
    "softmax": lambda margin, negatives: _Softmax(),
    "margin": lambda margin, negatives: _Triplets(margin, negatives == "semi-hard"),
    "bce": lambda margin, negatives: _BalancedBCE(),
}
