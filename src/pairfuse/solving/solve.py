"""`solve_head`: from labeled embeddings to the weights of a comparator."""

import math
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from pairfuse._checks import UNLABELED, check_int, check_labels, check_probability, check_share
from pairfuse._layers import is_altered, is_linear, layers_of
from pairfuse._starting import scale_of
from pairfuse.decisions.decision import logit
from pairfuse.fusions import Fusion, Quadratic
from pairfuse.fusions.base import computes_as
from pairfuse.solving.calibrating import fit_platt
from pairfuse.solving.choosing import Choice, Fold, Method, by_kind, choose, total
from pairfuse.solving.drawn_pairs import MAX_NUMBERS, DrawnPairsMethod
from pairfuse.solving.held_out import draw_held_out, fold_of_items
from pairfuse.solving.linear import MomentMethod
from pairfuse.solving.reading import Embeddings, StreamedEmbeddings
from pairfuse.solving.report import SolvedHead
from pairfuse.solving.two_covariance import Forms, TwoCovarianceMethod

FOLDS = 5


class Solved(NamedTuple):
    """A solution for one shrinkage, and its calibration.

    Attributes:
        solution: `Directions` or `Forms`.
        choice: What held-out identities say; None if there were too few.
        shrinkage: The chosen one.
        kept: True if the unlearned comparison is kept.
        slope: Of the logits over the scores, above 0.
        intercept: Of the logits, if half of all pairs are the same.
        sums: What the final solution was made from.
    """

    solution: Any
    choice: Choice | None
    shrinkage: float
    kept: bool
    slope: float
    intercept: float
    sums: Any


def linear_head(owner: str, model: Any) -> nn.Linear:
    """Return the head of a comparator, if it is one linear layer with one output. Raise otherwise."""
    layers = layers_of(model.head)
    layer = layers[0]
    one = len(layers) == 1 and is_linear(layer) and layer.out_features == 1 and not is_altered(model.head)
    if not one or not isinstance(layer, nn.Linear) or layer.bias is None:
        raise TypeError(
            f"{owner} solves linear heads with one output and a bias, got {model.head}: use head='linear', or train "
            "this head; it is unchanged"
        )
    return layer


def check_labeled(owner: str, labels: Any, items: int | None) -> Tensor:
    """Return labels `(N,)`; raise unless they give same and different pairs."""
    checked = check_labels(owner, labels, items)
    sizes = torch.unique(checked[checked != UNLABELED], return_counts=True)[1]
    if len(sizes) < 2:
        raise ValueError(f"{owner} expects at least two identities, got {len(sizes)}: there are no different pairs")
    if int(sizes.max()) < 2:
        raise ValueError(
            f"{owner} expects an identity with at least two items, got {len(sizes)} identities with one item each: "
            "there are no same pairs"
        )
    return checked


def method_for(
    fusion: Fusion, prior: float, scale: float, some: Tensor, items: int, generator: Generator, *, pairs: int | None
) -> Method:
    """Return how a linear head on a fusion is solved.

    Args:
        fusion: The fusion.
        prior: Share of same pairs.
        scale: The embeddings are multiplied by it.
        some: Some embeddings `(n, D)`.
        items: Number of labeled items.
        generator: Draws pairs.
        pairs: The largest number of drawn pairs of each kind. By default what `MAX_NUMBERS` allows.
    """
    origin = some.double().mean(0) * scale
    if isinstance(fusion, Quadratic) and computes_as(fusion, Quadratic) and fusion.fast_path:
        return TwoCovarianceMethod(scale, origin)
    if fusion.fast_path:
        return MomentMethod(fusion, prior, scale, origin)
    most = min(MAX_NUMBERS // (2 * fusion.out_features), math.inf if pairs is None else pairs)
    return DrawnPairsMethod(fusion, prior, scale, generator, most / items)


def read_folds(
    method: Method, source: Embeddings | StreamedEmbeddings, labels: Tensor, fold: Tensor, generator: Generator
) -> list[Fold]:
    """Return the folds. Every item is read once."""
    count = int(fold.max()) + 1
    held = [
        draw_held_out(labels, fold == k, generator, 1 if isinstance(method, TwoCovarianceMethod) else method.features)
        for k in range(count)
    ]
    for pairs in held:
        source.keep(pairs.items)
    sums = [total([method.read(*part) for part in source.parts(fold == k)]) for k in range(count)]
    found = []
    for part, pairs in zip(sums, held, strict=True):
        rows = source.rows(pairs.items)
        found.append(Fold(part, pairs, method.prepare(rows, pairs.left.to(rows.device), pairs.right.to(rows.device))))
    return found


def solve(method: Method, folds: list[Fold], shrinkage: float | None, *, calibrated: bool = True) -> Solved:
    """Solve with the shrinkage that held-out identities choose, or a given one.

    Args:
        method: How to solve.
        folds: The folds; a single one if there are too few identities to hold some out.
        shrinkage: None stands for "auto".
        calibrated: If False, the scores are left as they are.
    """
    sums = total([fold.sums for fold in folds])
    tried = method.shrinkages if shrinkage is None else [shrinkage]
    choice: Choice | None = None
    place = len(tried) - 1
    if len(folds) > 1:
        choice = choose(method, folds, tried, forced=shrinkage is not None, calibrated=calibrated)
        place = choice.place
    unlearned = method.unlearned()
    kept = unlearned is not None and (place == len(tried) or (choice is None and shrinkage is None))
    chosen = 1.0 if kept else tried[place]
    solution = unlearned if kept else method.refine(sums, chosen)
    slope, intercept = (1.0, 0.0) if choice is None else (choice.slope, choice.intercept)
    if calibrated and (choice is None or slope <= 0):
        kinds = by_kind([solution.scores(fold.pairs)[:, 0] for fold in folds], folds)
        slope, intercept = fit_platt(*kinds)
        if slope <= 0:  # even these pairs are ordered the wrong way round
            slope, intercept = 1 / float(torch.cat(kinds).std().clamp_min(1e-12)), 0.0
    return Solved(solution, choice, chosen, kept or (unlearned is None and chosen == 1), slope, intercept, sums)


@torch.no_grad()
def write_solution(model: Any, solved: Solved, scale: Tensor, prior: float) -> None:
    """Set the head of a comparator, and P, Q and center of a quadratic form."""
    layer = linear_head("solve_head", model)
    solution = solved.solution
    bias = solved.intercept + logit(prior)
    if isinstance(solution, Forms):
        width = solution.p.shape[-1]
        fusion = model.fusion
        fusion.p.copy_(solution.p[0] * width)
        fusion.q.copy_(solution.q[0] * width)
        fusion.center.copy_(solution.centers[0])
        layer.weight.fill_(solved.slope)
        bias += solved.slope * float(solution.constants[0])
    else:
        layer.weight.copy_(solved.slope * solution.weights)
        bias -= solved.slope * float(solution.offsets[0])
    layer.bias.fill_(bias)
    if model.embedding_scale is not None:
        model.embedding_scale.copy_(scale)
        model.head_started.fill_(True)
    model.decision = None


def check_solvable(owner: str, model: Any) -> None:
    """Raise unless the head of a comparator can be solved."""
    linear_head(owner, model)
    if not model.tied:
        raise ValueError(f"{owner} expects one encoder for both sides, got two: train this model")
    if model.additive or model.fusion.symmetry == "antisymmetric":
        raise ValueError(
            f"{owner} expects a fusion that can tell same from different, got {type(model.fusion).__name__}: use "
            "another one, such as 'product' or 'quadratic'"
        )


def solve_model(
    model: Any,
    source_of: Any,
    labels: Tensor,
    *,
    same_prior: float,
    shrinkage: float | str,
    folds: int,
    seed: int,
) -> SolvedHead:
    """Solve the head of a comparator from a source of embeddings.

    Args:
        model: The comparator, in eval mode.
        source_of: Returns the source, given the fold of each item `(N,)`.
        labels: Checked labels `(N,)`.
        same_prior: As for `solve_head`.
        shrinkage: As for `solve_head`.
        folds: As for `solve_head`.
        seed: As for `solve_head`.
    """
    owner = "solve_head"
    same_prior = check_probability(owner, "same_prior", same_prior)
    wanted = None if shrinkage == "auto" else check_share(owner, "shrinkage", shrinkage)
    folds = check_int(owner, "folds", folds, least=2)
    seed = check_int(owner, "seed", seed, least=None)
    fold = fold_of_items(labels, folds, seed)
    held_out = fold is not None
    fold = torch.where(labels == UNLABELED, -1, 0) if fold is None else fold
    generator = Generator().manual_seed(seed)
    source = source_of(fold)
    some = source.peek()
    if bool((some == some[:1]).all()):
        raise ValueError(f"{owner} expects embeddings that differ, got equal ones: the encoder may have collapsed")
    scale = torch.ones((), dtype=torch.float64)
    if model.embedding_scale is not None:
        scale = scale_of(owner, model, some, some)
    sizes = torch.unique(labels[labels != UNLABELED], return_counts=True)[1]
    items = int(sizes.sum())
    method = method_for(model.fusion, same_prior, float(scale), some, items, generator, pairs=None)
    parts = read_folds(method, source, labels, fold, generator)
    solved = solve(method, parts, wanted)
    write_solution(model, solved, scale, same_prior)
    return _report(model, method, solved, parts, sizes, same_prior, held_out)


def _report(
    model: Any, method: Method, solved: Solved, parts: list[Fold], sizes: Tensor, prior: float, held_out: bool
) -> SolvedHead:
    same = int((sizes * (sizes - 1)).sum()) // 2
    items = int(sizes.sum())
    quadratic = isinstance(method, TwoCovarianceMethod)
    features = method.features
    choice = solved.choice
    name = type(model.fusion).__name__
    remarks = []
    if not held_out:
        remarks.append(
            f"{len(sizes)} identities are too few to hold some out: the calibration is that of the training pairs."
        )
    if isinstance(method, DrawnPairsMethod):
        drawn = len(solved.sums.same)
        remarks.append(f"{name} is not a sum of products: solved on {drawn:,} same and as many drawn different pairs.")
    if features > (len(sizes) if quadratic else same):
        counted = f"{len(sizes):,} identities" if quadratic else f"{same:,} same pairs"
        remarks.append(f"{features:,} features are more than {counted} determine: the shrinkage decides the rest.")
    constant = 0 if quadratic else int(method.problem(solved.sums).constant.sum())  # type: ignore[attr-defined]
    if constant:
        remarks.append(f"{constant:,} features are constant over these pairs.")
    tried = method.shrinkages
    path = [] if choice is None else choice.path
    return SolvedHead(
        fusion=name,
        method=method.name,
        items=items,
        identities=len(sizes),
        same_pairs=same,
        different_pairs=items * (items - 1) // 2 - same,
        features=features,
        shrinkage=solved.shrinkage,
        kept=solved.kept,
        condition=method.condition(solved.sums, solved.shrinkage),
        auc=math.nan if choice is None else choice.path[choice.place],
        unlearned_auc=math.nan if choice is None else choice.path[-1],
        gain_error=math.nan if choice is None else choice.gain_error,
        path=tuple(zip([*tried, 1.0], path, strict=False)) if len(path) > 2 else (),
        same_prior=prior,
        remarks=tuple(remarks),
    )
