"""Every Python block in README.md and docs runs, and prints the text block that follows it, if one does."""

import html
import re

import oracles
import pytest
import torch
from documents import BLOCK, PAGES, ROOT, load, run_page

import pairfuse as pf

HOW_TO = ROOT / "docs" / "write-a-fusion.md"  # runs in a test of its own
COMPILES = "compile=True"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=[pytest.mark.slow] if COMPILES in text else [])
        for page, text in [(page, page.read_text()) for page in PAGES]
        if "```python" in text and page != HOW_TO
    ],
)
def test_code_blocks(page, registry_restored, monkeypatch, request):
    """The blocks of a page run in order, in one namespace, as a reader would type them."""
    if COMPILES in page.read_text():
        request.getfixturevalue("compiler")
    monkeypatch.setattr("oracles.ORACLES", dict(oracles.ORACLES))
    run_page(page)


def test_no_block_is_overlooked():
    """A block with other fences or indentation would be shown but never run."""
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"(```|~~~)\s*\{?\.?(py|python)", text)) == len(BLOCK.findall(text)), page


def test_an_operator_takes_one_class_and_one_oracle(registry_restored, monkeypatch):
    """The blocks of the how-to run; a class and an entry of the oracles are all that the tests of an operator need."""
    monkeypatch.setattr("oracles.ORACLES", dict(oracles.ORACLES))
    before = set(pf.list_fusions())
    run_page(HOW_TO)
    (name,) = set(pf.list_fusions()) - before
    oracle, fusion = oracles.ORACLES[name], pf.make_fusion(name, 3)
    for seed in range(20):
        u, v = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        due = [float(value) for value in oracle.values(fusion, oracles.exact(u), oracles.exact(v))]
        torch.testing.assert_close(fusion(u, v), torch.tensor(due, dtype=torch.float64))
        assert (pf.xnor_margin(fusion, u, v) > 0) == oracle.learns_xnor(oracles.exact(u), oracles.exact(v))


def test_the_table_of_the_fusions_is_made_from_the_registry(registry_restored):
    """A row for each name that ships, with what it declares; what a user registers is not in the site."""

    @pf.register_fusion("of-a-user")
    class OfAUser(pf.fusions.Product):
        pass

    rows = [row.split(" | ") for row in load("hooks").fusion_table().splitlines()[2:]]
    assert [re.search(r"`([\w-]+)`", row[0])[1] for row in rows] == [n for n in pf.list_fusions() if n != "of-a-user"]
    rows = [
        [re.sub("<.*?>", "", html.unescape(cell)).replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows
    ]
    table = {re.search(r"`([\w-]+)`", row[0])[1]: row for row in rows}
    assert table["mou"][1:] == ["[u; v; u − v; u ∘ v]", "256", "0", "none", "no", "always", "yes", "Mou 2016 |"]
    assert table["bilinear"][-1] == "Nickel 2011 |"
    assert table["abs-diff"][1] == "|u − v|"


def test_the_tables_stand_where_the_pages_ask_for_them():
    hooks = load("hooks")
    asked = {marker for page in PAGES for marker in re.findall(r"<!-- the .* -->", page.read_text())}
    assert asked == set(hooks.TABLES)
    page = "before\n<!-- the table of the laws -->\nafter"
    assert "| `symmetry` | Swapping u and v changes nothing" in hooks.on_page_markdown(page)
    assert "<!--" not in hooks.on_page_markdown(page)
