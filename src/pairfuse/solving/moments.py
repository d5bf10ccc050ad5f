"""Moments of the features of all pairs: number, mean and mean product, from sums over items."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from pairfuse._checks import check_finite, check_labels, check_tensor
from pairfuse.fusions import Fusion
from pairfuse.solving.same_pairs import LabeledSide, same_of_two_sets, sums_of_set, sums_of_side
from pairfuse.solving.sums import Sums
from pairfuse.solving.terms import TermPlan


class Statistics(NamedTuple):
    """What is known of the features of some pairs.

    Attributes:
        pairs: Number of ordered pairs.
        mean: Mean of the features `(F,)`; 0 without pairs.
        gram: Mean of their products `(F, F)`; 0 without pairs.
    """

    pairs: int
    mean: Tensor
    gram: Tensor

    @property
    def covariance(self) -> Tensor:
        """Covariance of the features `(F, F)`."""
        return self.gram - self.mean[:, None] * self.mean


@dataclass
class PairMoments:
    """Sums from which the moments of all pairs follow. Those of sets without a common identity add up.

    So a large set is read in parts, folds are left out by subtraction, and processes add theirs. All parts need the
    same `plan`, and every identity must be in one part as a whole.

    Attributes:
        plan: The fusion as products of columns.
        left: Sums of the columns of the left items.
        right: The same of the right items.
        same: Sums over the pairs of two different items of one identity.
        own: Sums over the pairs of an item with itself.
    """

    plan: TermPlan
    left: Sums
    right: Sums
    same: Sums
    own: Sums

    def __add__(self, other: "PairMoments") -> "PairMoments":
        """Return the moments of both sets together."""
        return self._combine(other, 1)

    def __sub__(self, other: "PairMoments") -> "PairMoments":
        """Return the moments without a part."""
        return self._combine(other, -1)

    def _combine(self, other: "PairMoments", sign: int) -> "PairMoments":
        if other.plan is not self.plan:
            raise ValueError("moments are only added if they have the same plan: pass plan=first.plan to pair_moments")
        left = self.left.plus(other.left, sign)
        right = left if self.right is self.left else self.right.plus(other.right, sign)
        return PairMoments(self.plan, left, right, self.same.plus(other.same, sign), self.own.plus(other.own, sign))

    @property
    def all_pairs(self) -> Statistics:
        """All pairs of two different items."""
        return _statistics(*self._all_sums())

    @property
    def same_pairs(self) -> Statistics:
        """The pairs of two different items of one identity."""
        return _statistics(*self.same)

    @property
    def different_pairs(self) -> Statistics:
        """The pairs of two items of different identities."""
        return _statistics(*self._all_sums().plus(self.same, -1))

    def _all_sums(self) -> Sums:
        number = self.left.number * self.right.number
        sums = self.plan.sums(self.left.rows, self.right.rows)
        gram = self.plan.gram(self.left.gram, self.right.gram)
        return Sums(number, sums, gram).plus(self.own, -1)

    def all_reduce(self, group: Any = None) -> "PairMoments":
        """Return the moments of the sets of all processes together. Every identity must be in one process.

        The processes need the same fusion, the same `scale` and the same `origin`.
        """
        sums = [self.left, self.same, self.own, *([] if self.right is self.left else [self.right])]
        tensors = [x for part in sums for x in part]
        flat = torch.cat([x.flatten() for x in tensors])
        distributed.all_reduce(flat, group=group)
        parts = [
            x.view(like.shape) for x, like in zip(torch.split(flat, [x.numel() for x in tensors]), tensors, strict=True)
        ]
        left, same, own, *right = (Sums(*parts[i : i + 3]) for i in range(0, len(parts), 3))
        return PairMoments(self.plan, left, right[0] if right else left, same, own)


def _statistics(number: Tensor, sums: Tensor, gram: Tensor) -> Statistics:
    pairs = round(float(number))
    return Statistics(pairs, sums / max(1, pairs), gram / max(1, pairs))


@torch.no_grad()
def pair_moments(
    fusion: Fusion,
    u: Tensor,
    labels: Any,
    v: Tensor | None = None,
    labels2: Any = None,
    *,
    scale: float | Tensor = 1.0,
    origin: Tensor | None = None,
    plan: TermPlan | None = None,
) -> PairMoments:
    """Return the exact moments of the fused features of all pairs, without looking at any pair of two identities.

    A feature of a separable fusion is a sum of products of a number of each side, so its sums over all pairs are
    products of sums over items: N items cost as much as N pairs. Pairs of one identity are summed identity by identity,
    in batches. No item is paired with itself. Everything is in float64.

    Args:
        fusion: A separable fusion, or a stack of such.
        u: Embeddings `(N, D)`.
        labels: Their labels, N integers; -1 means unlabeled and is left out.
        v: Embeddings `(M, D2)` of a second set: then the pairs are those of a left with a right item. By default the
            set is compared with itself, in both orders.
        labels2: The labels of the second set.
        scale: The embeddings are multiplied by this number before they are fused, as by `model.embedding_scale`.
        origin: A point `(D,)` near the scaled embeddings. Differences are expanded around it. By default the mean of
            some of the embeddings.
        plan: The plan of other moments, to add these to them. It replaces `origin`.

    Returns:
        The moments: `all_pairs`, `same_pairs` and `different_pairs`.

    Raises:
        TypeError: The embeddings are not tensors, or the labels are not integers.
        ValueError: The fusion is not separable, labels do not fit, widths do not fit, or an embedding is not finite.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from pairfuse.solving import pair_moments
        >>> u, labels = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1])
        >>> moments = pair_moments(pf.fusions.Product(1), u, labels)
        >>> moments.same_pairs.pairs, moments.same_pairs.mean.item()  # 1 · 2, in both orders
        (2, 2.0)
        >>> moments.different_pairs.pairs, moments.different_pairs.mean.item()  # 1 · 4 and 2 · 4
        (4, 6.0)
    """
    if (v is None) != (labels2 is None):
        raise TypeError("pair_moments expects v and labels2 together, got only one of them")
    if v is None and fusion.in2_features != fusion.in_features:
        raise ValueError(
            f"pair_moments expects two sets of embeddings for {type(fusion).__name__}({fusion.in_features}, "
            f"in2_features={fusion.in2_features}), got one"
        )
    left = _checked("u", u, labels, fusion.in_features, scale)
    right = None if v is None else _checked("v", v, labels2, fusion.in2_features, scale)
    if plan is None:
        one_width = right is None or fusion.in_features == fusion.in2_features
        plan = TermPlan(fusion, left.some().mean(0) if origin is None and one_width and len(left) else origin)
    if right is None:
        return moments_of_set(plan, left)
    sums = sums_of_side(plan, left, "left"), sums_of_side(plan, right, "right")
    return PairMoments(plan, *sums, same_of_two_sets(plan, left, right), Sums.zero(plan.features, plan.mix))


def moments_of_set(plan: TermPlan, side: LabeledSide) -> PairMoments:
    """Return the moments of the pairs of a set with itself, without checks."""
    return PairMoments(plan, *sums_of_set(plan, side))


def _checked(name: str, embeddings: Any, labels: Any, width: int, scale: float | Tensor) -> LabeledSide:
    check_tensor("pair_moments", name, embeddings)
    if embeddings.ndim != 2 or embeddings.shape[1] != width or not embeddings.is_floating_point():
        raise ValueError(
            f"pair_moments expects floating-point {name} of shape (N, {width}), got {embeddings.dtype} of shape "
            f"{tuple(embeddings.shape)}"
        )
    labels = check_labels("pair_moments", labels, len(embeddings))
    check_finite("pair_moments", **{name: embeddings})
    return LabeledSide(embeddings, labels, scale)
