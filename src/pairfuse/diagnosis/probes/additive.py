"""Probe `additive`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairfuse._modes import set_mode
from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.anova import additive_part, rms, rounding, shares
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.function_recorder import LOGIT_ACTIVATIONS, MONOTONE, FunctionRecorder
from pairfuse.diagnosis.memorizable import is_memorizable
from pairfuse.diagnosis.outputs import coarsest
from pairfuse.diagnosis.probe import Result, Undecided
from pairfuse.diagnosis.probes.crossing import ENOUGH, SMALL, crosses_here, find_crossing
from pairfuse.diagnosis.report import Ground
from pairfuse.diagnosis.sample import cast, take
from pairfuse.fusions import Fusion
from pairfuse.heads import is_monotone_affine
from pairfuse.items.batches import Batch
from pairfuse.xnor import xnor_certificate

SURE = 1000  # times rounding: no additive model leaves that much
SIDE = 6  # items on either side of the grids at redrawn weights
SCALES = ((10, 1.0), (3, SMALL), (1, 1.0), (0.5, 1.0), (0.1, 1.0))  # of the noise on the weights, and of the biases
NEAR = (0.3, 1.0)  # some steps of training
DRAWS = 3  # the first so many of these at which the logits are finite
LEAST = 2
RESOLVED = 10  # times rounding: the least spread of logits in which a sum can be seen
CURE = (
    "Let the embeddings meet in something other than a sum before the linear layer: multiply them element by element "
    "(u * v), take |u - v|, or both; or put a hidden layer with a nonlinearity after the concatenation. "
    "pairfuse.SiameseComparator does the first two by default. If it is a ranking, pass ranking=True."
)
SUM = (
    'Every logit is a sum g(x1) + h(x2), so that f(a, a) + f(b, b) = f(a, b) + f(b, a): it cannot answer "same" (XNOR)'
)
ORDER = "No two items ever change their order, whatever they are compared with"
UNABLE = 'g(x1) + h(x2), which cannot answer "same" (XNOR)'
Evidence = dict[str, Any]


def additive(context: Context) -> Result:
    """Symptom: the loss stays at 0.693 (cross-entropy) or 0.25 (squared error), and the output never leaves 0.5.

    Computation: first, whether any two items change their order with what they are compared with, at the current
    weights. "Same" needs it, and no increasing function of a sum does it, so that such a model is ok. Then, whether the
    logits are a sum: those of all pairs of the items, less row means and column means; what is left is the interaction.
    A last function that never decreases, such as a sigmoid, is left out. It is confirmed in float64 on 6 × 6 items, at
    the current weights and at weights redrawn around them, near and far, since a branch that starts at zero is additive
    for a moment only; where the model does not run in float64, in its own type. Last, for sums inside a function that
    is not seen, whether two of 8 × 8 items or more change their order at any of 12 sets of redrawn weights; where there
    are fewer items, mixtures of them are added. A `SiameseComparator` of an additive fusion of pairfuse's and a head of
    torch's affine layers is additive by its algebra, and nothing is measured. Threshold: `fail` at 8 units of rounding
    in the coarsest type on the way, of the numbers that the logits are computed from: a model that was trained to the
    plateau cancels them; and where no two items change their order at any weights, for at least 4 sets at which orders
    can be told; `warn` where there are fewer, and where it is a sum at the current weights only; a note if it is none
    at weights near these. If the logits themselves are no larger than rounding, and redrawn weights
    give no answer, the check is undecided. False alarms: a model whose interaction comes with neither its current
    weights nor redrawn ones, such as a branch that its training loop switches on.
    """
    model = context.runner.module
    if context.runner.call is model and is_declared_additive(model):
        return _verdict(context, f"{SUM}, whatever the weights.", _declared(context), "proved")
    if crosses_here(context):
        evidence = {"share of the variance": shares(context.grid_of("scores")).interaction}
        return Result("ok", evidence={**evidence, "items change their order": "yes"})
    try:
        result: Result | Undecided = _sum(context)
    except Undecided as reason:
        result = reason
    if isinstance(result, Undecided) or result.verdict != "fail":
        result = _order(context, result) or result
    if isinstance(result, Undecided):
        raise result
    return result


def _sum(context: Context) -> Result:
    """Whether the scores, or the input of a last function that never decreases, are a sum to rounding."""
    activation = context.given.final_activation
    hidden = context.runner.probabilities and (activation is None or activation.name not in MONOTONE)
    evidence: Evidence = {}
    for of in ("inner", "scores") if hidden else ("inner",):
        known = of == "inner" and (activation is None or activation.name in LOGIT_ACTIVATIONS)
        grid = context.grid_of("logits" if known else of)
        if not grid.isfinite().all():
            continue
        here = _measure(context, context.sample.left, context.sample.right, grid, of, context.precision)
        evidence = {**here.evidence(), "share of the variance": shares(grid).interaction}
        if here.interaction > SURE * here.noise:
            continue
        if context.redraws:
            found = _around_these_weights(context, of, evidence)
            if found is not None:
                return found
        elif not here.resolved:
            raise Undecided("the logits differ by little more than rounding: pass module= to examine other weights")
        elif here.is_sum:
            items = f"{context.sample.rows} by {context.sample.columns} items"
            more = "" if context.runner.has_module else " Pass module= to verify it at other weights."
            return _verdict(context, f"{SUM}, to rounding, for all pairs of {items}.{more}", evidence, "observed")
    if not evidence and not hidden:
        raise Undecided("some logits are not finite")
    return Result("ok", evidence=evidence)


def _order(context: Context, result: Result | Undecided) -> Result | None:
    """The verdict where no two items change their order; None where two do, or nothing is to be seen."""
    try:
        found = find_crossing(context)
    except Exception:  # such as a model that takes no mixtures of items
        return None
    if found.seen:
        return None
    if found.draws < ENOUGH:
        if isinstance(result, Undecided):
            return None
        text = f"{ORDER}, at the current weights: the scores are those of an increasing function of a sum {UNABLE}."
        return Result("note" if context.ranking else "warn", text, advice="" if context.ranking else CURE)
    text = f"{ORDER}, at the current weights and at {found.draws} sets of random weights, as in an increasing function"
    evidence = {"sets of random weights": found.draws, "items that change their order": 0}
    ground: Ground = "verified" if found.double else "observed"
    return _verdict(context, f"{text} of a sum {UNABLE}.", evidence, ground)


class Measured(NamedTuple):
    """The logits of a grid at some weights: their spread, their interaction, and what rounding may leave of both."""

    spread: float
    interaction: float
    noise: float
    precision: torch.dtype

    @property
    def resolved(self) -> bool:
        """True if the logits are far above rounding, so that a sum is told from anything else."""
        return self.spread > RESOLVED * self.noise

    @property
    def is_sum(self) -> bool:
        """True if rounding explains the interaction."""
        return self.interaction <= self.noise

    @property
    def crosses(self) -> bool:
        """True if rounding cannot explain the interaction."""
        return self.interaction > self.noise * (SURE if self.precision == torch.float64 else 1)

    def evidence(self) -> Evidence:
        """As a report shows it."""
        return {"interaction (rms)": self.interaction, "rounding": self.noise}


def _measure(context: Context, left: Batch, right: Batch, grid: Tensor, of: str, precision: torch.dtype) -> Measured:
    size = context.runner.magnitude(left, right, grid, precision, of=of)
    spread, interaction = rms(grid - grid.mean()), rms(grid - additive_part(grid))
    return Measured(spread, interaction, rounding(size, precision), precision)


def is_declared_additive(model: Any) -> bool:
    """True if a model is additive by facts that can be trusted.

    It is a comparator, its fusion is made of pairfuse's own and declares it, its head is affine up to a never
    decreasing function, and no hook can change what they compute.
    """
    if type(model) is not SiameseComparator or not (model.fusion.additive and is_monotone_affine(model.head)):
        return False
    after = [model, *model.fusion.modules(), *model.head.modules()]
    if any(m._forward_hooks or m._forward_pre_hooks or {"forward", "fuse"} & vars(m).keys() for m in after):
        return False
    fusions = [m for m in model.fusion.modules() if isinstance(m, Fusion)]
    return all(type(fusion).__module__.startswith("pairfuse.") for fusion in fusions)


def _around_these_weights(context: Context, of: str, evidence: Evidence) -> Result | None:
    """The test at the current weights and at redrawn ones; None if there is an interaction."""
    try:
        double, (here, *others) = True, _interactions(context, of, torch.float64)
    except Exception:  # such as constants in float32: it runs in its own type
        double, (here, *others) = False, _interactions(context, of, None)
    kind = "in float64" if double else "in its own type"
    evidence = {**evidence, kind: here.interaction, "rounding there": here.noise}
    if here.crosses:
        return None
    found = [other.interaction for other in others if other.crosses]
    if found:
        evidence = {**evidence, "at random weights": max(found)}
        coarse = not double and context.precision.itemsize < 4  # so that an interaction may be lost in rounding
        if not (here.resolved and here.is_sum) or coarse or not context.varies:
            return Result("ok", evidence=evidence)
        _, *near = _interactions(context, of, torch.float64 if double else None, (NEAR,))
        return Result(
            "note" if any(other.crosses for other in near) else "warn",
            "At its current weights the model is a sum g(x1) + h(x2); at others it is not.",
            evidence,
            "Right for a branch that starts at zero on purpose. Otherwise look for zero weights, or a dead ReLU, where "
            "the two sides meet.",
        )
    if len(others) < LEAST:
        raise Undecided("at random weights too few logits are finite")
    sums = [other for other in others if other.is_sum and other.resolved]
    if len(sums) < LEAST or not here.is_sum:
        raise Undecided("the logits differ by little more than rounding, at random weights too")
    text = f"{SUM}, at the current weights and at {_counted(len(sums))} sets of random weights."
    return _verdict(context, text, evidence, "verified" if double else "observed")


def _counted(count: int) -> str:
    return {2: "two", 3: "three"}.get(count, str(count))


def _interactions(
    context: Context, of: str, dtype: torch.dtype | None, scales: Sequence[tuple[float, float]] = SCALES
) -> list[Measured]:
    """The model as it is, and with its weights redrawn, where its logits are finite."""
    left, right = (take(x, slice(SIDE)) for x in (context.sample.left, context.sample.right))
    if dtype is not None:
        left, right = cast(left, dtype), cast(right, dtype)
    held = context.held_precision if dtype is None else dtype
    found: list[Measured] = []
    for scale, biases in ((0, 1.0), *scales):
        recorder = FunctionRecorder()
        with context.runner.sandbox(dtype=dtype), torch.no_grad():
            if scale:
                context.runner.redraw(scale, biases=biases)
            grid = context.runner.score_all(left, right, of=of, recorder=recorder)
            if grid.isfinite().all():
                found.append(_measure(context, left, right, grid, of, coarsest(held, recorder.precision)))
            elif not scale:
                raise Undecided("some logits are not finite")
        if len(found) > DRAWS:
            break
    return found


def _declared(context: Context) -> Evidence:
    """The facts of a comparator, and the certificate of two of its embeddings."""
    model: Any = context.runner.module
    facts = model.fusion.facts()
    evidence = {"fusion": facts.fusion, "additive": facts.additive, "xnor": facts.xnor}
    if model.tied and context.sample.same_kind:
        set_mode(model, False)
        a, b = model._fused_size(model.encode(take(context.sample.left, [0, 1])).detach())
        evidence["certificate"] = str(xnor_certificate(model.fusion, a, b))
    return evidence


def _verdict(context: Context, text: str, evidence: Evidence, ground: Ground) -> Result:
    if context.ranking:
        return Result("note", f"{text} That is allowed here.", evidence, ground=ground)
    same = context.sample.same
    if same is not None and is_memorizable(*context.sample.some_pairs(), same[:256]):
        text += " It can memorize these pairs with one number for each item, so a low training loss proves nothing."
    return Result("fail", text, evidence, CURE, ground)
