"""`evaluate` and its kin: from labeled items, pairs or scores to a report."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from pairfuse._modes import eval_mode
from pairfuse.data.identities import identity_folds
from pairfuse.evaluation.build import MAX_BYTES, Settings, build_report
from pairfuse.evaluation.pairs import AllPairs
from pairfuse.evaluation.report import Report
from pairfuse.evaluation.sets import LabeledItems, check_comparator, check_groups, pair_up, score_all, score_trials
from pairfuse.evaluation.table import number_units
from pairfuse.items.batches import Batch
from pairfuse.items.reading import Items, count_readable


@torch.no_grad()
def evaluate(
    model: Any,
    items: Items,
    labels: Any,
    *,
    items2: Items | None = None,
    labels2: Any = None,
    groups: Any = None,
    groups2: Any = None,
    far: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    max_bytes: int = MAX_BYTES,
    progress: bool = False,
) -> Report:
    """Judge a comparator on *all* pairs of labeled items, or of two sets of them.

    Each item is encoded once, and no item is paired with itself. A symmetric model gets each pair once, others get both
    orders. The scores of all pairs are never in memory together, if they are many.

    Use identities that training never saw: [`split_identities`][pairfuse.data.split_identities] makes such a split.

    **Intervals.** Pairs that share an identity depend on each other, so the intervals come from resampling identities,
    not pairs. A share at a threshold has Wilson's interval instead, with the variance adjusted for the dependence; so
    does a figure with fewer than ten errors. More than 100 identities are put into 100 groups at random, which are
    resampled as a whole. A figure that rests on fewer than ten errors or identities says so when printed.

    **Exactness.** The scores are kept if they take at most 40 % of `max_bytes`: 50 million pairs in float32 by default.
    Then all figures are exact. Otherwise they are counted in 2,048 bins. FAR and TAR at the reported thresholds are
    still exact, as these are ends of bins, and `report.auc_error` bounds the error of the AUC.

    The score of a pair is `head(fusion(encoder(x1), encoder(x2)))`. A comparator with a `forward` of its own or a hook
    is refused; `evaluate_pairs` calls it.

    Args:
        model: A `SiameseComparator` whose head has one output.
        items: N items, as for `model.score_matrix`.
        labels: The label of each item, N integers; -1 means unlabeled and is left out.
        items2: M right items, to evaluate the pairs of two sets.
        labels2: Their labels.
        groups: What is drawn as a whole when items are drawn, N integers from 0 on, if this is more than an identity:
            the family of a person, or the place where several were recorded. By default the labels.
        groups2: The same for `items2`.
        far: False accept rates for which the TAR is reported. By default those of 0.001, 0.01 and 0.1 that the number
            of negative pairs allows.
        confidence: Level of the intervals.
        resamples: Number of resamples.
        seed: The same data and seed give the same report.
        batch_size: Number of items that the encoder gets at a time.
        max_bytes: Memory for the scores, without the embeddings.
        progress: If True, show a progress bar.

    Returns:
        The report.

    Raises:
        TypeError: The model is not a comparator, or an argument is of the wrong kind.
        ValueError: There are no positive or no negative pairs, labels do not fit the items, a score is NaN or infinite,
            all scores are equal, the head has several outputs, or a FAR is out of range or too low for the number of
            pairs.

    References:
        Bolle, Ratha and Pankanti, *Error Analysis of Pattern Recognition Systems: The Subsets Bootstrap*, CVIU 2004.

    Examples:
        >>> import torch, pairfuse as pf
        >>> labels = torch.arange(200) % 40
        >>> items = torch.randn(40, 8)[labels] + 0.3 * torch.randn(200, 8)
        >>> report = pf.evaluate(pf.SiameseComparator(torch.nn.Identity(), "cosine", embedding_dim=8), items, labels)
        >>> report.auc.low <= report.auc.value <= report.auc.high
        True
        >>> report.positives, report.negatives
        (400, 19500)
    """
    settings = Settings("evaluate", far, confidence, resamples, seed, max_bytes)
    check_comparator("evaluate", model)
    sets = [LabeledItems("evaluate", items, labels, groups)]
    if (items2 is None) != (labels2 is None):
        raise TypeError("evaluate expects items2 and labels2 together, got only one of them")
    if items2 is items:
        raise TypeError("evaluate expects two different sets, got items twice: leave items2 out to compare them")
    if items2 is not None:
        if (groups is None) != (groups2 is None):
            raise TypeError("evaluate expects groups and groups2 together if there are two sets, got only one of them")
        sets.append(LabeledItems("evaluate", items2, labels2, groups2, suffix="2"))
    elif groups2 is not None:
        raise TypeError("evaluate expects groups2 only together with items2")
    check_groups("evaluate", sets)
    given = torch.cat([x.groups for x in sets])
    units, count = number_units(given, settings.generator)
    for x, numbers in zip(sets, torch.split(units, [len(x.groups) for x in sets]), strict=True):
        x.units = numbers
    with eval_mode(model) as still:
        pairs = score_all(settings, still, sets, batch_size, progress)
        return build_report(
            settings,
            [pairs],
            units=count,
            items=len(given),
            identities=len(torch.unique(given)),
            comparison=model.comparison,
            decision=model.decision,
        )


@torch.no_grad()
def evaluate_embeddings(model: Any, u: Tensor, v: Tensor, labels: Tensor) -> Report:
    """Judge all pairs of items that are encoded already, left and right, without intervals; for training loops."""
    settings = Settings("evaluate", None, 0.95, 20, 0)
    given = LabeledItems("evaluate", u, labels, None)
    given.units = torch.zeros_like(given.labels)
    with eval_mode(model) as still:
        pairs = pair_up(settings, still, [given], u, v, progress=False)
        return build_report(settings, [pairs], units=0, items=len(given.labels), identities=0)


@torch.no_grad()
def evaluate_folds(
    fit: Callable[[Tensor], Any],
    items: Items,
    labels: Any,
    *,
    folds: int = 5,
    groups: Any = None,
    far: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    max_bytes: int = MAX_BYTES,
    progress: bool = False,
) -> Report:
    """Judge a way to train on k folds of the identities, for people with little data.

    Each fold's identities are judged by a model that was trained on the identities of all other folds. So all
    identities are used for the figures, and none was seen by the model that judges it. The pairs are those within the
    folds, of all folds together. `report.decide` then chooses a threshold for a model that is trained in the same way
    on all identities; this assumes that such models put their scores on about the same scale.

    Args:
        fit: Builds and trains a new model: gets the positions of the items to train on `(n,)`, returns a comparator.
        items: N items; if not a tensor, mapping or tuple of tensors, with `__getitem__` and `__len__`.
        labels: As for `evaluate`.
        folds: Number of folds k, at least 2.
        groups: As for `evaluate`. Folds are made of whole groups.
        far: As for `evaluate`.
        confidence: As for `evaluate`.
        resamples: As for `evaluate`.
        seed: The same data and seed give the same folds and intervals.
        batch_size: As for `evaluate`.
        max_bytes: As for `evaluate`.
        progress: As for `evaluate`.

    Returns:
        The report. It raises the errors of `evaluate`.

    Examples:
        >>> import torch, pairfuse as pf
        >>> labels = torch.arange(200) % 40
        >>> items = torch.randn(40, 8)[labels] + 0.3 * torch.randn(200, 8)
        >>> def fit(train):
        ...     model = pf.SiameseComparator(torch.nn.Identity(), "cosine", embedding_dim=8)
        ...     return model  # after training on items[train], labels[train]
        >>> pf.evaluate_folds(fit, items, labels).identities
        40
    """
    settings = Settings("evaluate_folds", far, confidence, resamples, seed, max_bytes)
    count_readable("items", items)
    all_items = LabeledItems("evaluate_folds", items, labels, groups)
    check_groups("evaluate_folds", [all_items])
    all_items.units, count = number_units(all_items.groups, settings.generator)
    seen: set[int] = set()  # parameters of the models before
    with ExitStack() as stack:
        sources: list[AllPairs] = []
        models, comparison = [], ""  # kept, so that the ids of their parameters stay theirs
        for train, test in identity_folds(all_items.folded(), folds=folds, seed=seed):
            with torch.enable_grad():
                model = fit(train)
            check_comparator("evaluate_folds", model)
            weights = {id(x) for x in (model, *model.fusion.parameters(), *model.head.parameters())}
            if weights & seen:
                raise ValueError(
                    "evaluate_folds expects fit to return a new model each time, got one with the fusion or head of an "
                    "earlier fold, which saw the items of this one: build the model inside fit"
                )
            if sources and model.comparison != comparison:
                raise ValueError(
                    f"evaluate_folds expects models with one fusion and head, got {comparison}, then {model.comparison}"
                )
            seen, comparison = seen | weights, model.comparison
            models.append(model)
            still = stack.enter_context(eval_mode(model))
            sources.append(score_all(settings, still, [all_items.only(test)], batch_size, progress))
        return build_report(
            settings,
            [*sources],
            units=count,
            items=len(all_items.groups),
            identities=len(torch.unique(all_items.groups)),
            comparison=comparison,
        )


@torch.no_grad()
def evaluate_pairs(
    model: Any,
    x1: Batch,
    x2: Batch,
    y: Tensor,
    *,
    groups1: Any = None,
    groups2: Any = None,
    far: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
) -> Report:
    """Judge a comparator on given pairs, such as the trials of a verification benchmark.

    Args:
        model: A `SiameseComparator` whose head has one output.
        x1: B left items, as for calling the model.
        x2: B right items.
        y: Targets `(B,)`: 1 = same, 0 = different.
        groups1: The identity of each left item `(B,)`, or a larger unit that it belongs to. Without the groups of both
            sides there are no intervals, because pairs that share an identity depend on each other.
        groups2: The same for the right items.
        far: As for `evaluate`.
        confidence: As for `evaluate`.
        resamples: As for `evaluate`.
        seed: As for `evaluate`.
        batch_size: Number of pairs that go through the model at a time.

    Returns:
        The report. It raises the errors of `evaluate`.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=8)
        >>> x1, y = torch.randn(100, 8), torch.arange(100) % 2
        >>> x2 = torch.where(y[:, None] == 1, x1 + 0.1 * torch.randn(100, 8), torch.randn(100, 8))
        >>> pf.evaluate_pairs(model, x1, x2, y).auc.value
        1.0
    """
    check_comparator("evaluate_pairs", model, by_parts=False)
    scores, several = model._logits("evaluate_pairs", x1, x2, batch_size)
    if several or scores.ndim != 1:
        raise ValueError(f"evaluate_pairs expects one score for each pair, got shape {tuple(scores.shape)}")
    settings = Settings("evaluate_pairs", far, confidence, resamples, seed)
    trials, units = score_trials(settings, scores, y, groups1, groups2)
    facts = {"comparison": model.comparison, "decision": model.decision}
    return build_report(settings, [trials], units=units.groups, items=0, identities=units.identities, **facts)


@torch.no_grad()
def evaluate_scores(
    scores: Any,
    y: Any,
    *,
    groups1: Any = None,
    groups2: Any = None,
    far: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Judge scores from anywhere: higher must mean "more the same".

    The log loss, the Brier score and the calibration error take the scores as logits.

    Args:
        scores: Scores `(B,)`, a tensor or an array of NumPy.
        y: Targets `(B,)`: 1 = same, 0 = different.
        groups1: As for `evaluate_pairs`.
        groups2: As for `evaluate_pairs`.
        far: As for `evaluate`.
        confidence: As for `evaluate`.
        resamples: As for `evaluate`.
        seed: As for `evaluate`.

    Returns:
        The report. It raises the errors of `evaluate`.

    Examples:
        >>> import torch, pairfuse as pf
        >>> scores, y = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
        >>> pf.evaluate_scores(scores, y).auc.value
        0.75
    """
    settings = Settings("evaluate_scores", far, confidence, resamples, seed)
    trials, units = score_trials(settings, scores, y, groups1, groups2)
    return build_report(settings, [trials], units=units.groups, items=0, identities=units.identities)
