"""What `evaluate` and its kin are given: checked, encoded and put into units."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Subset

from pairfuse._checks import UNLABELED, check_finite, check_labels, check_targets
from pairfuse._layers import has_altered_output
from pairfuse._sets import encode_items, make_scorer
from pairfuse.comparator import SiameseComparator
from pairfuse.evaluation.build import Settings
from pairfuse.evaluation.pairs import AllPairs, sort_side
from pairfuse.evaluation.table import number_units
from pairfuse.evaluation.trials import Trials
from pairfuse.items.batches import combine
from pairfuse.items.reading import Items, known_length
from pairfuse.items.tower import Side
from pairfuse.scoring import MAX_BYTES as SCORER_BYTES


def check_comparator(owner: str, model: Any, *, by_parts: bool = True) -> None:
    """Raise unless a model is a comparator, and unless calling it is calling its parts, if that is done instead."""
    if not isinstance(model, SiameseComparator):
        inner = next((name for name in ("module", "_orig_mod") if hasattr(model, name)), None)
        advice = f"pass its {inner}" if inner else "for scores of another model use evaluate_scores"
        raise TypeError(f"{owner} expects model to be a SiameseComparator, got {type(model).__name__}: {advice}")
    altered = type(model).forward is not SiameseComparator.forward or has_altered_output(model)
    if by_parts and altered:
        raise TypeError(
            f"{owner} expects a comparator whose score is head(fusion(encoder(x1), encoder(x2))), got one with a "
            "forward of its own, a hook or a patched method: use evaluate_pairs, which calls the model"
        )


def check_groups(owner: str, sets: "list[LabeledItems]") -> None:
    """Raise unless all items of an identity are in one group: otherwise parts of it would count as independent."""
    labels, groups = (torch.cat([getattr(x, name) for x in sets]) for name in ("labels", "groups"))
    pairs = torch.unique(torch.stack([labels, groups]), dim=1)[0]
    torn = pairs[1:][pairs[1:] == pairs[:-1]]
    if len(torn):
        raise ValueError(
            f"{owner} expects groups of whole identities, got items of identity {int(torn[0])} in several groups"
        )


class LabeledItems:
    """Items with their labels, without those that are unlabeled.

    Args:
        owner: The caller, for errors.
        items: The items.
        labels: Their labels; -1 means unlabeled.
        groups: What is drawn as a whole; None stands for the labels.
        suffix: Of the arguments' names, for errors.

    Attributes:
        labels: The labels that are not -1 `(N,)`.
        groups: Their groups `(N,)`.
        units: The numbers of their groups `(N,)`, once they are known.
    """

    units: Tensor

    def __init__(self, owner: str, items: Items, labels: Any, groups: Any, *, suffix: str = "") -> None:
        self._owner, self._items, self._suffix = owner, items, suffix
        labels = check_labels(owner, labels, known_length(items))
        self._labeled = (labels != UNLABELED).nonzero()[:, 0]
        self._count = len(labels)
        self.labels = self.groups = labels[self._labeled]
        if len(self.labels) == 0:
            raise ValueError(f"{owner} expects labels of at least one item, got {len(labels)} labels of -1 (unlabeled)")
        if groups is not None:
            self.groups = _read_groups(owner, f"groups{suffix}", groups, len(labels), "item")[self._labeled]
            if (self.groups == UNLABELED).any():
                raise ValueError(f"{owner} expects groups{suffix} of at least 0, got -1 for a labeled item")

    def only(self, positions: Tensor) -> "LabeledItems":
        """Return those at some positions among all items, in a data set or batch that can be indexed."""
        some = object.__new__(LabeledItems)
        some._owner, some._suffix, some._count = self._owner, self._suffix, len(positions)
        batch = isinstance(self._items, (Tensor, dict, list, tuple)) or hasattr(self._items, "keys")
        some._items = combine(lambda x: x[positions], self._items) if batch else Subset(self._items, positions.tolist())  # type: ignore[arg-type]
        some._labeled = torch.arange(len(positions))
        among = torch.searchsorted(self._labeled, positions)
        some.labels, some.groups, some.units = self.labels[among], self.groups[among], self.units[among]
        return some

    def folded(self) -> Tensor:
        """Return the group of each given item, -1 if it is unlabeled `(N,)`."""
        groups = torch.full((self._count,), UNLABELED)
        groups[self._labeled] = self.groups
        return groups

    def embed(self, model: Any, side: Side, batch_size: int, progress: bool) -> Tensor:
        """Return the embeddings of the labeled items `(N, D)`."""
        name = f"items{self._suffix}"
        embeddings = encode_items(model, name, self._items, side, batch_size, progress)
        check_labels(self._owner, torch.zeros(self._count, dtype=torch.long), len(embeddings))
        check_finite(self._owner, **{name: embeddings})
        return embeddings if len(self._labeled) == self._count else embeddings[self._labeled.to(embeddings.device)]


def score_all(settings: Settings, model: Any, sets: list[LabeledItems], batch_size: int, progress: bool) -> AllPairs:
    """Return all pairs of a set with itself, or of two sets, for a model in eval mode."""
    u = sets[0].embed(model, "left", batch_size, progress)
    v = u if len(sets) == 1 and model.tied else sets[-1].embed(model, "right", batch_size, progress)
    return pair_up(settings, model, sets, u, v, progress=progress)


def pair_up(
    settings: Settings, model: Any, sets: list[LabeledItems], u: Tensor, v: Tensor, *, progress: bool
) -> AllPairs:
    """Return all pairs of sets that are encoded, as left and as right items."""
    left, right, itself = sets[0], sets[-1], len(sets) == 1
    sides = [sort_side(x, items.labels, items.units) for x, items in ((u, left), (v, right))]
    budget = min(SCORER_BYTES, max(1, settings.max_bytes // 2))
    scorer = make_scorer(settings.owner, model, *(side.embeddings for side in sides), max_bytes=budget)
    outputs = scorer.block(slice(0, 1), slice(0, 1)).shape[-1]
    if outputs != 1:
        raise ValueError(
            f"{settings.owner} expects a head with one output, got {outputs}: for one of them, pass its scores to "
            "evaluate_scores"
        )
    return AllPairs(settings.owner, scorer, *sides, itself=itself, halved=itself and model.symmetric, progress=progress)


def _read_groups(owner: str, name: str, groups: Any, count: int, of: str) -> Tensor:
    """Return groups as `check_labels` returns labels. Its errors speak of groups, one for each item or pair."""
    try:
        return check_labels(owner, groups, count)
    except (TypeError, ValueError) as error:
        words = str(error).replace("labels", name).replace("label", "group").replace("item", of)
        raise type(error)(words) from None


class Units(NamedTuple):
    """How many units there are: groups that are resampled, and identities in them. Both are 0 if unknown."""

    groups: int
    identities: int


def score_trials(settings: Settings, scores: Any, y: Any, groups1: Any, groups2: Any) -> tuple[Trials, Units]:
    """Return scored pairs with their units."""
    owner = settings.owner
    given = scores.to_numpy() if hasattr(scores, "to_numpy") else scores  # a Series of pandas
    try:
        scores = torch.as_tensor(given, dtype=None if hasattr(given, "dtype") else torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{owner} expects scores to be numbers, one for each pair, got {type(scores).__name__}"
        ) from None
    if scores.is_complex():
        raise TypeError(f"{owner} expects real scores, got {scores.dtype}")
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{owner} expects scores of shape (B,), one for each pair, got shape {tuple(scores.shape)}")
    scores = scores if scores.is_floating_point() else scores.double()
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    check_finite(owner, scores=scores)
    same = check_targets(owner, torch.as_tensor(y).to(scores.device), len(scores)) == 1
    if (groups1 is None) != (groups2 is None):
        raise TypeError(f"{owner} expects groups1 and groups2 together, got only one of them")
    if groups1 is None:
        return Trials(scores, same, torch.zeros(2, len(scores), dtype=torch.long, device=scores.device)), Units(0, 0)
    given = (("groups1", groups1), ("groups2", groups2))
    groups = torch.cat([_read_groups(owner, name, value, len(scores), "pair") for name, value in given])
    numbers, count = number_units(groups, settings.generator)
    identities = len(torch.unique(groups))
    return Trials(scores, same, numbers.view(2, -1).to(scores.device)), Units(count, identities)
