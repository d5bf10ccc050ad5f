"""What a diagnosis found, as a table for a terminal, for a notebook and for a machine."""

import html
import math
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from pairfuse.diagnosis.report_plot import draw_grid

Verdict = Literal["fail", "warn", "note", "ok"]
VERDICTS: tuple[Verdict, ...] = ("fail", "warn", "note", "ok")
PAGE = "docs/stuck.md"
INDENT = " " * 6
COLOURS = {"fail": "#c62828", "warn": "#b26a00", "note": "#1565c0", "ok": "#2e7d32"}


@dataclass(frozen=True)
class Finding:
    """What one probe found.

    Attributes:
        id: The probe's name; it stays the same from version to version.
        verdict: `"fail"`: the model cannot work like this. `"warn"`: it probably suffers. `"note"`: worth knowing.
            `"ok"`: nothing wrong was seen.
        proved: Whether the verdict is proved, rather than observed on the items given.
        summary: What is the matter, in a sentence or two.
        evidence: The figures behind it.
        advice: What to do; empty where nothing need be done.
    """

    id: str
    verdict: Verdict
    proved: bool
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""

    @property
    def link(self) -> str:
        """Where the documentation explains it."""
        return f"{PAGE}#{self.id}"

    @property
    def ground(self) -> str:
        """`"proved"` or `"observed"`."""
        return "proved" if self.proved else "observed"

    def figures(self) -> str:
        """The evidence in one line."""
        return ", ".join(f"{name}: {_short(value)}" for name, value in self.evidence.items())

    def __str__(self) -> str:
        parts = [self.summary, self.figures(), f"→ {self.advice}" if self.advice else "", self.link]
        head = f"{self.verdict.upper():4}  {self.id} ({self.ground})"
        return "\n".join([head, *(_wrapped(part, INDENT) for part in filter(None, parts))])


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a model of pairs, the gravest first; [`diagnose`][pairfuse.diagnose] makes it.

    Attributes:
        findings: One for each probe that ran.
        skipped: For each probe that did not, why.
        grid: The logits `(n, m)` of every left item with every right one, float64, NaN where there is none.
        seconds: How long it took.
    """

    findings: tuple[Finding, ...]
    skipped: Mapping[str, str]
    grid: Tensor = field(repr=False)
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing failed. There may be warnings."""
        return all(finding.verdict != "fail" for finding in self.findings)

    def __getitem__(self, id: str) -> Finding:
        """The finding of this id; a KeyError says why there is none."""
        for finding in self.findings:
            if finding.id == id:
                return finding
        raise KeyError(f"{id}: {self.skipped.get(id, f'no such probe; there are {self._ids()}')}")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the grid as plain dicts, lists, strings and numbers, fit for JSON."""
        findings = [
            {**asdict(finding), "evidence": _for_json(finding.evidence), "link": finding.link}
            for finding in self.findings
        ]
        return {"ok": self.ok, "findings": findings, "skipped": dict(self.skipped), "seconds": self.seconds}

    def plot(self) -> Any:
        """Draw the logits of all pairs beside the best sum g(x1) + h(x2), and what no sum can give: XNOR at a glance.

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
        blocks = [f"pairfuse diagnosis: {self._counts()} ({self.seconds:.1f} s)", *map(str, self._telling())]
        good = ", ".join(finding.id for finding in self.findings if finding.verdict == "ok")
        unknown = "; ".join(f"{id} ({reason})" for id, reason in self.skipped.items())
        blocks += [_wrapped(f"{title}: {text}") for title, text in (("ok", good), ("not examined", unknown)) if text]
        return "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        rows = []
        for finding in self._telling():
            parts = [html.escape(finding.summary), f"<small>{html.escape(finding.figures())}</small>"]
            parts += [f"→ {html.escape(finding.advice)}"] if finding.advice else []
            verdict = f'<b style="color: {COLOURS[finding.verdict]}">{finding.verdict}</b><br>{finding.ground}'
            rows.append(f"<tr><td>{verdict}</td><td><code>{finding.id}</code></td><td>{'<br>'.join(parts)}</td></tr>")
        good = ", ".join(f"<code>{finding.id}</code>" for finding in self.findings if finding.verdict == "ok")
        unknown = "; ".join(f"<code>{id}</code> ({html.escape(why)})" for id, why in self.skipped.items())
        rest = [f"<p>{title}: {text}</p>" for title, text in (("ok", good), ("not examined", unknown)) if text]
        table = f'<table style="text-align: left">{"".join(rows)}</table>' if rows else ""
        return f"<p><b>pairfuse diagnosis</b>: {self._counts()}</p>{table}{''.join(rest)}"

    def _telling(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict != "ok"]

    def _counts(self) -> str:
        count = {verdict: sum(finding.verdict == verdict for finding in self.findings) for verdict in VERDICTS}
        return ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS)

    def _ids(self) -> str:
        return ", ".join([*(finding.id for finding in self.findings), *self.skipped])


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
