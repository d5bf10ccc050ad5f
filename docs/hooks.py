"""What mkdocs computes while it builds: the table of the fusions from what they declare, and that of the laws."""

import inspect
import re
from typing import Any

import pairfuse as pf
from pairfuse.fusions.registry import fusion_class
from pairfuse.testing.checks import LAWS

WIDTH = 64


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put each table where a page asks for it."""
    for marker, table in TABLES.items():
        if marker in markdown:
            markdown = markdown.replace(marker, table())
    return markdown


def law_table() -> str:
    """One row for each law: its name and its sentence."""
    rows = [f"| `{name}` | {' '.join((inspect.getdoc(law) or '').split())} |" for name, law in LAWS.items()]
    return "\n".join(["| check | law |", "|---|---|", *rows])


def fusion_table() -> str:
    """One row for each registered fusion that is part of the package."""
    head = [
        *("name", "formula", "features", "parameters", "symmetry", "additive", "XNOR", "fast path", "paper"),
    ]
    names = [name for name in pf.list_fusions() if fusion_class(name).__module__.startswith("pairfuse.")]
    lines = [head, ["---"] * len(head), *(_row(name) for name in names)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(name: str) -> list[str]:
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


TABLES = {"<!-- the table of the fusions -->": fusion_table, "<!-- the table of the laws -->": law_table}
