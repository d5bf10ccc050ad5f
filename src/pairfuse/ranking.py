"""`rank_fusions`: every fusion solved on the same embeddings, and judged on identities that it was not solved on."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pairfuse._checks import UNLABELED, check_finite, check_int, check_tensor, require_package
from pairfuse._progress import show_progress
from pairfuse._starting import scale_of
from pairfuse.comparator import SiameseComparator
from pairfuse.decisions import Estimate
from pairfuse.evaluation.build import Settings, build_report
from pairfuse.evaluation.report import Report
from pairfuse.evaluation.sets import LabeledItems, score_all
from pairfuse.evaluation.table import number_units
from pairfuse.fusions.registry import FusionSpec
from pairfuse.solving.held_out import fold_of_items
from pairfuse.solving.reading import Embeddings
from pairfuse.solving.solve import FOLDS, check_labeled, check_solvable, method_for, read_folds, solve, write_solution

FUSIONS: tuple[FusionSpec, ...] = (
    "cosine",
    "product",
    "squared-diff",
    "quadratic",
    "abs-diff",
    "max",
    "min",
    "symmetric",
    ("cosine", "squared-diff"),
    ("cosine", "abs-diff"),
)
JUDGED = 800  # items of a fold whose pairs are judged
DRAWN = 20_000  # pairs of each kind, for fusions that are solved on drawn pairs
FAR, RESAMPLES = 0.01, 300


@dataclass(frozen=True)
class RankedFusion:
    """One row of the table.

    Attributes:
        name: The fusion, as it was given; a list as `a + b`.
        fusion: The fusion, as it was given.
        auc: Area under the ROC curve on held-out identities.
        tar: Share of same pairs that are accepted where 1 % of the different ones are.
        gain: The area minus that of cosine.
        seconds: Time to solve it for every fold and to judge it.
        index: True if an index for inner products, such as faiss, can serve it.
        report: The whole evaluation.
    """

    name: str
    fusion: FusionSpec
    auc: Estimate
    tar: Estimate
    gain: float
    seconds: float
    index: bool
    report: Report = field(repr=False)


@dataclass(frozen=True)
class FusionRanking:
    """The fusions, best first. Made by `rank_fusions`; `print` shows a table, and `plot()` draws it.

    Attributes:
        rows: One for each fusion, the highest area first.
        best: A comparator of embeddings with the first fusion, solved on all identities. Its encoder is `nn.Identity`.
    """

    rows: tuple[RankedFusion, ...]
    best: SiameseComparator = field(repr=False)

    def __str__(self) -> str:
        """Return a table for people."""
        head = ("fusion", "AUC", f"TAR at FAR {FAR:g}", "over cosine", "seconds", "index")
        cells = [
            (x.name, str(x.auc), str(x.tar), f"{x.gain:+.4f}", f"{x.seconds:.1f}", "yes" if x.index else "no")
            for x in self.rows
        ]
        widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
        lines = ("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in (head, *cells))
        return "\n".join(line.rstrip() for line in lines)

    def plot(self) -> Any:
        """Draw the area of each fusion with its interval.

        Returns:
            A figure of matplotlib.

        Raises:
            ImportError: matplotlib is not installed; it is in the extra `examples`.
        """
        pyplot: Any = require_package("matplotlib.pyplot", "examples")
        figure, axis = pyplot.subplots(figsize=(7, 0.4 * len(self.rows) + 1.2), layout="constrained")
        rows = self.rows[::-1]
        values = [x.auc.value for x in rows]
        ends = [[max(0.0, x.auc.value - x.auc.low) for x in rows], [max(0.0, x.auc.high - x.auc.value) for x in rows]]
        colors = ["#1f6fb2" if x.index else "#999999" for x in rows]
        axis.errorbar(values, range(len(rows)), xerr=ends, fmt="none", ecolor=colors)
        axis.scatter(values, range(len(rows)), c=colors, zorder=3)
        cosine = next((x.auc.value for x in rows if x.name == "cosine"), None)
        if cosine is not None:
            axis.axvline(cosine, color="0.8", linewidth=1)
        axis.set_yticks(range(len(rows)), [x.name for x in rows])
        axis.set(xlabel="area under the ROC curve, identities not seen (blue: an index can serve it)")
        return figure


@torch.no_grad()
def rank_fusions(
    embeddings: Tensor,
    labels: Any,
    *,
    fusions: Sequence[FusionSpec] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: bool = False,
) -> FusionRanking:
    """Solve a head on each fusion, and rank them on identities that it was not solved on.

    The identities are put into folds. Each fold is judged by a head that was solved on all others, whose shrinkage and
    calibration come from these others too. The moments of the folds add up, so that a set of items is read once for
    each fusion. At most 800 items of a fold are judged, whole identities, on all pairs of them. Fusions that are not
    separable are solved on at most 20,000 same and as many different pairs.

    Args:
        embeddings: N embeddings `(N, D)`, such as those of a frozen encoder.
        labels: Their identities, N integers; -1 means unlabeled and is left out.
        fusions: What to rank, each as `SiameseComparator` takes it: names, fusions, or lists of these, which are
            stacked. By default ten that have no random weights. `"cosine"` is always among them.
        folds: Number of folds, at least 2; fewer if there are few identities.
        seed: The same data and seed give the same ranking.
        progress: If True, show a progress bar.

    Returns:
        The ranking. `.best` is a comparator with the first fusion, solved on all identities.

    Raises:
        TypeError: The embeddings are not a tensor, or labels or fusions are of the wrong kind.
        ValueError: There are too few identities, labels do not fit, an embedding is NaN or infinite, or a fusion is
            additive.

    Examples:
        >>> import torch, pairfuse as pf
        >>> labels = torch.arange(600) % 200
        >>> embeddings = torch.randn(200, 16)[labels] + torch.linspace(0.1, 3, 16) * torch.randn(600, 16)
        >>> ranking = pf.rank_fusions(embeddings, labels, fusions=["cosine", "product", "quadratic"])
        >>> ranking.rows[0].name
        'quadratic'
        >>> ranking.best.score_matrix(embeddings[:3], embeddings[:5]).shape
        torch.Size([3, 5])
    """
    owner = "rank_fusions"
    check_tensor(owner, "embeddings", embeddings)
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f"{owner} expects floating-point embeddings of shape (N, D), got {embeddings.dtype} of shape "
            f"{tuple(embeddings.shape)}"
        )
    check_finite(owner, embeddings=embeddings)
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    labels = check_labeled(owner, labels, len(embeddings))
    fold = fold_of_items(labels, check_int(owner, "folds", folds, least=2), seed)
    if fold is None:
        raise ValueError(
            f"{owner} expects at least 4 identities, 2 of them with two items, got "
            f"{len(torch.unique(labels[labels != UNLABELED]))} identities: fewer cannot be held out; call solve_head"
        )
    wanted = list(FUSIONS if fusions is None else fusions)
    if "cosine" not in wanted:
        wanted.insert(0, "cosine")
    models = [_comparator(spec, embeddings) for spec in wanted]
    for model in models:
        check_solvable(owner, model)
    found = []
    steps = zip(wanted, models, strict=True)
    for spec, model in show_progress(steps, "ranking", len(wanted)) if progress else steps:
        begin = time.perf_counter()
        report = _judge(model, embeddings, labels, fold, seed)
        found.append((spec, model, report, time.perf_counter() - begin))
    cosine = next(report.auc.value for spec, _, report, _ in found if spec == "cosine")
    rows = [
        RankedFusion(
            _name(spec),
            spec,
            report.auc,
            report.tar[FAR],
            report.auc.value - cosine,
            spent,
            model.fusion.fast_path,
            report,
        )
        for spec, model, report, spent in found
    ]
    order = sorted(range(len(rows)), key=lambda i: -rows[i].auc.value)
    best = models[order[0]]
    best.solve_head(embeddings, labels, folds=folds, seed=seed)
    return FusionRanking(tuple(rows[i] for i in order), best)


def _comparator(spec: FusionSpec, embeddings: Tensor) -> SiameseComparator:
    spec = list(spec) if isinstance(spec, tuple) else spec
    model = SiameseComparator(nn.Identity(), spec, embedding_dim=embeddings.shape[1], item_ndim=1)
    return model.to(embeddings).eval()


def _name(spec: FusionSpec) -> str:
    if isinstance(spec, str):
        return spec
    return " + ".join(map(_name, spec)) if isinstance(spec, (list, tuple)) else type(spec).__name__


def _judge(model: SiameseComparator, embeddings: Tensor, labels: Tensor, fold: Tensor, seed: int) -> Report:
    """Return the evaluation of heads that were solved on all other folds."""
    generator = Generator().manual_seed(seed)
    source = Embeddings(embeddings, labels)
    some = source.peek()
    scale = scale_of("rank_fusions", model, some, some)
    items = int((labels != UNLABELED).sum())
    method = method_for(model.fusion, 0.5, float(scale), some, items, generator, pairs=DRAWN)
    parts = read_folds(method, source, labels, fold, generator)
    settings = Settings("rank_fusions", (FAR,), 0.95, RESAMPLES, seed)
    given = LabeledItems("rank_fusions", embeddings, labels, None)
    given.units, count = number_units(given.groups, settings.generator)
    sources = []
    for k in range(len(parts)):
        solved = solve(method, [part for m, part in enumerate(parts) if m != k], None)
        judged = copy.deepcopy(model)
        write_solution(judged, solved, scale, 0.5)
        sources.append(score_all(settings, judged, [given.only(_some(labels, fold == k, generator))], 4096, False))
    return build_report(
        settings,
        [*sources],
        units=count,
        items=items,
        identities=len(torch.unique(given.groups)),
        comparison=model.comparison,
    )


def _some(labels: Tensor, inside: Tensor, generator: Generator) -> Tensor:
    """Return the positions of the items of random identities, at most `JUDGED` unless two identities have more."""
    positions = inside.nonzero()[:, 0]
    values, identity, sizes = torch.unique(labels[positions], return_inverse=True, return_counts=True)
    order = torch.randperm(len(values), generator=generator)
    order = order[(sizes[order] == 1).int().argsort(stable=True)]
    most = max(2, int((sizes[order].cumsum(0) <= JUDGED).sum()))
    return positions[torch.isin(identity, order[:most])]
