"""The findings of a diagnosis, as text, as HTML for a notebook, and as plain data."""

import html
import math
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from pairfuse.diagnosis.report_plot import draw_grid

Verdict = Literal["fail", "warn", "note", "ok"]
VERDICTS: tuple[Verdict, ...] = ("fail", "warn", "note", "ok")
Ground = Literal["proved", "verified", "observed"]
SITE: str | None = None  # where the documentation is published
INDENT = " " * 6
COLORS = {"fail": "#c62828", "warn": "#b26a00", "note": "#1565c0", "ok": "#2e7d32"}


@dataclass(frozen=True)
class Finding:
    """The result of one probe.

    Attributes:
        id: The probe's name; it stays the same from version to version.
        verdict: `"fail"`: the model cannot work like this. `"warn"`: it probably suffers. `"note"`: worth knowing.
            `"ok"`: nothing wrong was seen.
        summary: The problem, in a sentence or two.
        evidence: The figures behind it.
        advice: What to do; empty if there is nothing to do.
        ground: `"proved"`: it follows from the algebra of a `SiameseComparator` whose fusion and head are pairfuse's
            or torch's own. `"verified"`: it was checked up to rounding, at the current weights and at redrawn ones, or
            read off the model, the optimizer or the calls that were made. `"observed"`: it was seen for the given pairs
            at the current weights.
    """

    id: str
    verdict: Verdict
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    ground: Ground = "observed"

    @property
    def url(self) -> str | None:
        """The page that explains it; None until the documentation has an address."""
        return None if SITE is None else f"{SITE}/stuck/#{self.id}"

    def figures(self) -> str:
        """The evidence in one line."""
        return ", ".join(f"{name}: {_short(value)}" for name, value in self.evidence.items())

    def __str__(self) -> str:
        parts = [self.summary, self.figures(), f"→ {self.advice}" if self.advice else "", self.url or ""]
        head = f"{self.verdict.upper():4}  {self.id} ({self.ground})"
        return "\n".join([head, *(_wrapped(part, INDENT) for part in filter(None, parts))])


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a model of pairs, sorted by severity; returned by [`diagnose`][pairfuse.diagnose].

    Attributes:
        findings: One for each probe that ran.
        skipped: The reason for each probe that did not run.
        grid: The logits `(n, m)` of every left item with every right one, float64, NaN where there is none.
        seconds: How long it took.
        undecided: The decisive probes among the skipped that apply to the model and could not get an answer. The
            decisive probes are `not-finite`, `constant-output`, `ignored-input`, `additive` and `xnor-overfit`.
    """

    findings: tuple[Finding, ...]
    skipped: Mapping[str, str]
    grid: Tensor = field(repr=False)
    seconds: float
    undecided: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing failed and no decisive probe is undecided. There may be warnings."""
        return not self.undecided and all(finding.verdict != "fail" for finding in self.findings)

    def __getitem__(self, id: str) -> Finding:
        """The finding of this id; the KeyError gives the reason if there is none."""
        for finding in self.findings:
            if finding.id == id:
                return finding
        known = ", ".join([*(finding.id for finding in self.findings), *self.skipped])
        raise KeyError(f"{id}: {self.skipped.get(id, f'no such probe; there are {known}')}")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the grid as plain dicts, lists, strings and numbers, fit for JSON."""
        findings = [
            {**asdict(finding), "evidence": _for_json(finding.evidence), "url": finding.url}
            for finding in self.findings
        ]
        rest = {"skipped": dict(self.skipped), "undecided": list(self.undecided), "seconds": self.seconds}
        return {"ok": self.ok, "findings": findings, **rest}

    def plot(self) -> Any:
        """Draw the logits of all pairs, their best approximation by a sum g(x1) + h(x2), and the difference.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: matplotlib is not installed.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model, (x1, x2, y) = pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(3, 32, 8)
            >>> pf.diagnose(model, x1, x2).plot().savefig("grid.png")  # doctest: +SKIP
        """
        return draw_grid(self.grid)

    def __str__(self) -> str:
        head = f"pairfuse diagnosis: {self._counts()} ({self.seconds:.1f} s)"
        rest = [_wrapped(f"{title}: {text}") for title, text in self._rest(lambda text: text, lambda id: id)]
        return "\n\n".join([head, *map(str, self._problems()), *rest])

    def _repr_html_(self) -> str:
        rows = []
        for finding in self._problems():
            parts = [html.escape(finding.summary), f"<small>{html.escape(finding.figures())}</small>"]
            parts += [f"→ {html.escape(finding.advice)}"] if finding.advice else []
            verdict = f'<b style="color: {COLORS[finding.verdict]}">{finding.verdict}</b><br>{finding.ground}'
            rows.append(f"<tr><td>{verdict}</td><td><code>{finding.id}</code></td><td>{'<br>'.join(parts)}</td></tr>")
        table = f'<table style="text-align: left">{"".join(rows)}</table>' if rows else ""
        rest = "".join(f"<p>{title}: {text}</p>" for title, text in self._rest(html.escape, "<code>{}</code>".format))
        return f"<p><b>pairfuse diagnosis</b>: {self._counts()}</p>{table}{rest}"

    def _problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict != "ok"]

    def _rest(self, escape: Callable[[str], str], code: Callable[[str], str]) -> list[tuple[str, str]]:
        """The ids that need no block of their own, each list under its title."""
        good = ", ".join(code(finding.id) for finding in self.findings if finding.verdict == "ok")
        reasons = {id: f"{code(id)} ({escape(reason)})" for id, reason in self.skipped.items()}
        open_ = "; ".join(reasons[id] for id in self.undecided)
        others = "; ".join(text for id, text in reasons.items() if id not in self.undecided)
        lists = (("UNDECIDED, so not ok", open_), ("ok", good), ("skipped", others))
        return [(title, text) for title, text in lists if text]

    def _counts(self) -> str:
        count = {verdict: sum(finding.verdict == verdict for finding in self.findings) for verdict in VERDICTS}
        return ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS)


def _wrapped(text: str, indent: str = "") -> str:
    """Text as wide as the terminal, at most 100 columns."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=INDENT, break_on_hyphens=False)


def _for_json(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """NaN and infinities as text, since JSON has no numbers for them."""
    wild = {name for name, value in evidence.items() if isinstance(value, float) and not math.isfinite(value)}
    return {name: str(value) if name in wild else value for name, value in evidence.items()}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
