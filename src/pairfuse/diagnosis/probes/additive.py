"""Probe `additive`."""

import torch
from torch import Tensor

from pairfuse._batches import combine
from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis.grids import additive_part, crosses_over, rms, rounding, shares
from pairfuse.diagnosis.probes.result import Result
from pairfuse.diagnosis.subject import Skip, Subject, take
from pairfuse.xnor import xnor_certificate

SURE = 1000  # times rounding: no additive model leaves that much
SIDE = 8  # items on either side of the grids in float64
REDRAWN = 2
CURE = (
    "Let the embeddings meet in something other than a sum before the linear layer: multiply them element by element "
    "(u * v), take |u - v|, or both; or put a hidden layer with a nonlinearity after the concatenation. "
    "pairfuse.SiameseComparator does the first two by default. If it is a ranking, say allow_additive=True."
)
SUM = 'Every logit is a sum g(x1) + h(x2), so that f(a, a) + f(b, b) = f(a, b) + f(b, a): it cannot say "same" (XNOR)'


def additive(subject: Subject) -> Result:
    """Symptom: the loss stays at 0.693 (cross-entropy) or 0.25 (squared error), the answer at 0.5, for ever.

    Computation: the logits of all pairs of the items, less row means and column means; what is left is the
    interaction. It is confirmed in float64 on 8 × 8 items, at the present weights and at weights redrawn around them,
    since a branch that starts at zero is additive for a moment only. Of a `SiameseComparator` the declared facts
    tell. Where only probabilities are known and their link is not, the test is free of links: no two items ever
    change their order.
    Threshold: `fail`, proved, at 8 units of rounding. False alarms: none of the proved; a model may be additive on
    the given items and not on others.
    """
    for cause in ("constant-output", "ignored-input"):
        if cause in subject.found and subject.found[cause].verdict == "fail":
            raise Skip(f"see {cause}")
    if isinstance(subject.module, SiameseComparator) and subject.call is subject.module:
        declared = _declared(subject, subject.module)
        if declared is not None:
            return declared
    grid = subject.grid
    if not grid.isfinite().all():
        return _without_link(subject)
    noise, left = rounding(grid, subject.precision), rms(grid - additive_part(grid))
    evidence: dict[str, object] = {
        "interaction (rms)": left,
        "rounding": noise,
        "share of the variance": shares(grid).interaction,
    }
    if subject.precision == torch.float32 and left > SURE * noise:
        return _crossing(subject, grid, evidence)
    if subject.module is None:
        return _by_sight(subject, left <= noise, evidence)
    return _in_double(subject, evidence)


def _declared(subject: Subject, model: SiameseComparator) -> Result | None:
    """What a comparator's declared facts say; None where its head cannot be seen through."""
    facts = model.fusion.facts()
    evidence = {"fusion": type(model.fusion).__name__, "additive": facts.additive, "xnor": facts.xnor}
    if not model.additive:
        return Result("ok", evidence=evidence, proved=True)
    if model.tied and subject.alike:
        model.eval()
        a, b = model.encode(take(subject.left, [0, 1])).detach()
        evidence["certificate"] = str(xnor_certificate(model.fusion, a, b))
    return _verdict(subject, f"{SUM}, whatever the weights.", evidence, proved=True)


def _in_double(subject: Subject, evidence: dict[str, object]) -> Result:
    """The test in float64, at the present weights and around them."""
    present, *others = _interactions(subject)
    evidence = {**evidence, "in float64": present[0], "rounding there": present[1]}
    if present[0] > present[1]:
        return Result("ok", evidence=evidence)
    if any(left > noise for left, noise in others):
        return Result(
            "warn",
            "At its present weights the model is a sum g(x1) + h(x2); at others it is not.",
            {**evidence, "around the present weights": max(left for left, _ in others)},
            "Right for a branch that starts at zero on purpose. Otherwise look for zero weights, or a dead ReLU, where "
            "the two sides meet.",
        )
    return _verdict(subject, f"{SUM}, at these weights and at {REDRAWN} draws around them.", evidence, proved=True)


def _interactions(subject: Subject) -> list[tuple[float, float]]:
    """Interaction and rounding in float64: as the model is, and with its weights redrawn."""
    sides = [combine(_double, take(x, slice(SIDE))) for x in (subject.left, subject.right)]
    found = []
    for draw in range(1 + REDRAWN):
        with subject.lent(dtype=torch.float64), torch.no_grad():
            if draw:
                _redraw(subject)
            grid = subject.score_all(sides[0], sides[1])
        if not grid.isfinite().all():
            raise Skip("in float64 some logits are not finite")
        found.append((rms(grid - additive_part(grid)), rounding(grid, torch.float64)))
    return found


def _redraw(subject: Subject) -> None:
    """Move every weight by about its size, and those that are zero by 0.1."""
    generator = torch.Generator().manual_seed(0)
    for parameter in subject.needs_module().parameters():
        if parameter.is_floating_point():
            size = parameter.square().mean().sqrt()
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            parameter.add_(noise * torch.where(size > 0, size, 0.1) / 2)


def _by_sight(subject: Subject, fits: bool, evidence: dict[str, object]) -> Result:
    """Of a callable whose weights are not known the grid is all there is."""
    if not fits:
        return Result("ok", evidence=evidence)
    text = (
        f"{SUM}, but for rounding, on all pairs of {subject.rows} by {subject.columns} items. Pass module= for a proof."
    )
    return _verdict(subject, text, evidence, proved=False)


def _crossing(subject: Subject, grid: Tensor, evidence: dict[str, object]) -> Result:
    """Not a sum; but where probabilities hide their logits, perhaps an increasing function of one."""
    hidden = subject.probabilities and subject.given.link is None
    if not hidden or crosses_over(grid) or min(grid.shape) < 4:
        return Result("ok", evidence=evidence)
    return _verdict(
        subject,
        "No two items ever change their order, whatever they are compared with: the scores are those of an increasing "
        'function of a sum g(x1) + h(x2), which cannot say "same".',
        evidence,
        proved=False,
        verdict="warn",
    )


def _without_link(subject: Subject) -> Result:
    """The test that needs no logits, on the probabilities themselves."""
    n, m = subject.rows, subject.columns
    rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    values = subject.score(take(subject.left, rows), take(subject.right, columns)).values.double().cpu()
    table = (values[:, 1] if values.ndim == 2 else values).view(n, m)
    if not table.isfinite().all():
        raise Skip("some scores are not finite")
    return _crossing(subject, table, {"smallest": float(table.min()), "largest": float(table.max())})


def _verdict(
    subject: Subject, text: str, evidence: dict[str, object], *, proved: bool, verdict: str = "fail"
) -> Result:
    if subject.allow_additive:
        return Result("note", f"{text} That is allowed here.", evidence, proved=proved)
    return Result("fail" if verdict == "fail" else "warn", text, evidence, CURE, proved)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
