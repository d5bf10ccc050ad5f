"""Probe `additive`."""

from typing import Any

import torch
from torch import Tensor

from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.anova import additive_part, crosses_over, rms, rounding, shares
from pairfuse.diagnosis.function_recorder import LOGIT_LINKS, MONOTONE
from pairfuse.diagnosis.memorizable import fits_by_heart
from pairfuse.diagnosis.probes.result import Result
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.items.batches import combine
from pairfuse.xnor import xnor_certificate

SURE = 1000  # times rounding: no additive model leaves that much
SIDE = 6  # items on either side of the grids in float64
SCALES = (0.5, 3, 10)  # of the noise on the weights, times their size
LEAST = 2  # scales at which the logits must be finite
CURE = (
    "Let the embeddings meet in something other than a sum before the linear layer: multiply them element by element "
    "(u * v), take |u - v|, or both; or put a hidden layer with a nonlinearity after the concatenation. "
    "pairfuse.SiameseComparator does the first two by default. If it is a ranking, say allow_additive=True."
)
SUM = 'Every logit is a sum g(x1) + h(x2), so that f(a, a) + f(b, b) = f(a, b) + f(b, a): it cannot say "same" (XNOR)'
Evidence = dict[str, Any]


def additive(subject: Subject) -> Result:
    """Symptom: the loss stays at 0.693 (cross-entropy) or 0.25 (squared error), the answer at 0.5, for ever.

    Computation: the logits of all pairs of the items, less row means and column means; what is left is the interaction.
    A last function that never decreases, such as a sigmoid, is left out. It is confirmed in float64 on 6 × 6 items, at
    the present weights and at weights redrawn around them, near and far, since a branch that starts at zero is additive
    for a moment only. Of a `SiameseComparator` the declared facts tell. Where only probabilities are known, they are
    tried themselves as well, and a test that is free of links is added: no two items ever change their order.
    Threshold: `fail`, proved, at 8 units of rounding. False alarms: a model whose interaction comes with neither its
    present weights nor redrawn ones, such as a branch that its training loop switches on.
    """
    for cause, verdicts in (("constant-output", ("fail", "note")), ("ignored-input", ("fail",))):
        if cause in subject.found and subject.found[cause].verdict in verdicts:
            raise Skip(f"see {cause}")
    if isinstance(subject.module, SiameseComparator) and subject.call is subject.module:
        return _declared(subject, subject.module)
    link = subject.given.link
    hidden = subject.probabilities and (link is None or link.name not in MONOTONE)
    evidence: Evidence = {}
    for of in ("inner", "scores") if hidden else ("inner",):
        plain = of == "inner" and (link is None or link.name in LOGIT_LINKS)  # then it is known already
        grid = subject.grid if plain else subject.score_all(subject.left, subject.right, of=of)
        if not grid.isfinite().all():
            continue
        noise, left = rounding(grid, subject.precision), rms(grid - additive_part(grid))
        evidence = {"interaction (rms)": left, "rounding": noise, "share of the variance": shares(grid).interaction}
        if subject.precision == torch.float32 and left > SURE * noise:
            continue
        if subject.module is None:
            if left <= noise:
                return _by_sight(subject, evidence)
            continue
        found = _in_double(subject, of, evidence)
        if found is not None:
            return found
    return _crossing(subject, evidence) if hidden else Result("ok", evidence=evidence)


def _declared(subject: Subject, model: SiameseComparator) -> Result:
    """What a comparator's declared facts say."""
    facts = model.fusion.facts()
    evidence: Evidence = {"fusion": type(model.fusion).__name__, "additive": facts.additive, "xnor": facts.xnor}
    if not model.additive:
        return Result("ok", evidence=evidence, proved=True)
    if model.tied and subject.alike:
        model.eval()
        a, b = model.encode(take(subject.left, [0, 1])).detach()
        evidence["certificate"] = str(xnor_certificate(model.fusion, a, b))
    return _verdict(subject, f"{SUM}, whatever the weights.", evidence, proved=True)


def _in_double(subject: Subject, of: str, evidence: Evidence) -> Result | None:
    """The test in float64, at the present weights and around them; None if there is an interaction."""
    present, *others = _interactions(subject, of)
    evidence = {**evidence, "in float64": present[0], "rounding there": present[1]}
    if present[0] > present[1]:
        return None
    if any(left > noise for left, noise in others):
        return Result(
            "warn",
            "At its present weights the model is a sum g(x1) + h(x2); at others it is not.",
            {**evidence, "around the present weights": max(left for left, _ in others)},
            "Right for a branch that starts at zero on purpose. Otherwise look for zero weights, or a dead ReLU, where "
            "the two sides meet.",
        )
    if len(others) < LEAST:
        raise Skip("around the present weights too few logits are finite in float64")
    text = f"{SUM}, at these weights and at {len(others)} draws around them."
    return _verdict(subject, text, evidence, proved=True)


def _interactions(subject: Subject, of: str) -> list[tuple[float, float]]:
    """Interaction and rounding in float64: as the model is, and with its weights redrawn, where that is finite."""
    sides = [combine(_double, take(x, slice(SIDE))) for x in (subject.left, subject.right)]
    found = []
    for scale in (0, *SCALES):
        with subject.lent(dtype=torch.float64), torch.no_grad():
            if scale:
                subject.redraw(scale)
            grid = subject.score_all(sides[0], sides[1], of=of)
        if grid.isfinite().all():
            found.append((rms(grid - additive_part(grid)), rounding(grid, torch.float64)))
        elif not scale:
            raise Skip("in float64 some logits are not finite")
    return found


def _by_sight(subject: Subject, evidence: Evidence) -> Result:
    """Of a callable whose weights are not known the grid is all there is."""
    items = f"{subject.rows} by {subject.columns} items"
    text = f"{SUM}, but for rounding, on all pairs of {items}. Pass module= for a proof."
    return _verdict(subject, text, evidence, proved=False)


def _crossing(subject: Subject, evidence: Evidence) -> Result:
    """The test that needs no logits, on the probabilities themselves."""
    grid = subject.score_all(subject.left, subject.right, of="scores")
    if not grid.isfinite().all():
        raise Skip("some scores are not finite")
    if min(grid.shape) < 4 or crosses_over(grid):
        return Result("ok", evidence=evidence)
    text = (
        "No two items ever change their order, whatever they are compared with: the scores are those of an increasing "
        'function of a sum g(x1) + h(x2), which cannot say "same".'
    )
    if subject.allow_additive:
        return Result("note", f"{text} That is allowed here.", evidence)
    return Result("warn", text, evidence, CURE)


def _verdict(subject: Subject, text: str, evidence: Evidence, *, proved: bool) -> Result:
    if subject.allow_additive:
        return Result("note", f"{text} That is allowed here.", evidence, proved=proved)
    if subject.same is not None and fits_by_heart(*subject.some_pairs(), subject.same[:256]):
        text += " It can learn these pairs by heart, a score for each item: a low training loss proves nothing."
    return Result("fail", text, evidence, CURE, proved)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
