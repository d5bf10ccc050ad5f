"""Computed by mkdocs while it builds: tables of fusions and laws, and reports of `diagnose` on the clinic."""

import inspect
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pairfuse as pf
from pairfuse.diagnosis.probe import Probe
from pairfuse.diagnosis.probes import PROBES
from pairfuse.fusions.registry import fusion_class
from pairfuse.testing.laws import LAWS

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from clinic import FAULTY, Case

WIDTH = 64
HOW = {"How it is found": "Computation", "Threshold": "Threshold", "False alarms": "False alarms"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put each table or report where a page asks for it."""
    for marker, table in TABLES.items():
        if marker in markdown:
            markdown = markdown.replace(marker, table())
    return markdown


def question_report() -> str:
    """The report of the founding question's model, in the clinic's size."""
    return _shown(_diagnose(next(case for case in FAULTY if case.name == "question")))


def finding_section(probe: Probe) -> str:
    """The symptom of a fault, a report on a model of the clinic, and how it is found."""
    case = next(case for case in FAULTY if case.finding == probe.id)
    seen = " ".join((inspect.getdoc(case.build) or "").split())
    text = " ".join((inspect.getdoc(probe.run) or "").split())
    parts = re.split(r"\b(Symptom|Computation|Threshold|False alarms): ", text)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = " ".join(f"*{name}*: {said[key]}" for name, key in HOW.items())
    return "\n\n".join([f"*Symptom*: {said['Symptom']} For example: {seen}", _shown(_diagnose(case)[probe.id]), found])


def _shown(report: object) -> str:
    with patch.dict(os.environ, COLUMNS="72"):  # the width of a page
        return f"```text\n{report}\n```"


def _diagnose(case: Case) -> pf.Diagnosis:
    patient = case.build(0)
    return pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)


def law_table() -> str:
    """One row for each law: its name and its sentence."""
    rows = [f"| `{name}` | {' '.join(law.statement.split())} |" for name, law in LAWS.items()]
    return "\n".join(["| check | law |", "|---|---|", *rows])


def fusion_table() -> str:
    """One row for each registered fusion that is part of the package."""
    head = [
        *("name", "formula", "features", "parameters", "symmetry", "additive", "XNOR", "fast path", "paper"),
    ]
    names = [name for name in pf.list_fusions() if fusion_class(name).__module__.startswith("pairfuse.")]
    lines = [head, ["---"] * len(head), *(fusion_row(name) for name in names)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fusion_row(name: str) -> list[str]:
    """What the table shows of one fusion: its facts, and the formula and the paper of its docstring."""
    fusion = fusion_class(name)
    facts, words = pf.make_fusion(name, WIDTH).facts(), {True: "yes", False: "no"}
    text = inspect.getdoc(fusion) or ""
    return [
        f"[`{name}`][{fusion.__module__}.{fusion.__name__}]",
        f'<code style="white-space: nowrap">{_literally(_formula(text))}</code>',
        str(facts.out_features),
        f"{facts.parameters:,}",
        facts.symmetry,
        words[facts.additive],
        facts.xnor,
        words[facts.fast_path],
        _paper(text),
    ]


def _formula(text: str) -> str:
    """The formula at the end of a docstring's first sentence."""
    found = re.search(r"^[^\n]*: `([^`]+)`\.$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"no formula at the end of the first line: {text[:80]!r}")
    return found[1]


def _literally(text: str) -> str:
    """Text in which Markdown finds nothing of its own: in a table, `|` would end the cell."""
    return "".join(f"&#{ord(char)};" if char in "|_[]*`<>&" else char for char in text)


def _paper(text: str) -> str:
    """First author and year of a docstring's first reference."""
    found = re.search(r"References:\n\s+([\w-]+)\b.*?\b((?:19|20)\d\d)\b", text, re.DOTALL)
    if not found:
        raise ValueError(f"no reference with a year: {text[:80]!r}")
    return f"{found[1]}&nbsp;{found[2]}"


TABLES = {
    "<!-- the table of the fusions -->": fusion_table,
    "<!-- the table of the laws -->": law_table,
    "<!-- the report of the question -->": question_report,
    **{f"<!-- the finding: {probe.id} -->": partial(finding_section, probe) for probe in PROBES},
}
