"""Every Python block in README.md and docs runs, and prints the text block that follows it, if one does."""

import ast
import html
import os
import re
import subprocess
import sys

import oracles
import pytest
import torch
from documents import BLOCK, PAGES, ROOT, load, run_page
from torch import nn

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
def test_code_blocks(page, registry_restored, monkeypatch, request, tmp_path):
    """The blocks of a page run in order, in one namespace, as a reader would type them."""
    if COMPILES in page.read_text():
        request.getfixturevalue("compiler")
    monkeypatch.setattr("oracles.ORACLES", dict(oracles.ORACLES))
    monkeypatch.chdir(tmp_path)  # where a page saves something
    run_page(page)


@pytest.mark.parametrize("page", ["series", "texts", "images"])
def test_from_labels_to_a_loaded_decision_takes_less_than_forty_lines(page):
    """All code of a tutorial of a domain, imports and printing included, without blank lines."""
    text = (ROOT / "docs" / f"decide-{page}.md").read_text()
    code = "".join(block["code"] for block in BLOCK.finditer(text))
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    assert page == "images" or "from_pretrained(" in code


def test_no_block_is_overlooked():
    """A block with other fences or indentation would be shown but never run."""
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"(```|~~~)\s*\{?\.?(py|python)", text)) == len(BLOCK.findall(text)), page


@pytest.mark.slow
def test_a_separable_fusion_takes_fifteen_lines(registry_restored, monkeypatch):
    """From the first class of the how-to alone follow fast scoring, the laws and the row of the table."""
    monkeypatch.setattr("oracles.ORACLES", dict(oracles.ORACLES))
    run_page(HOW_TO)
    block = next(block["code"] for block in BLOCK.finditer(HOW_TO.read_text()) if "class " in block["code"])
    (written,) = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    assert written.end_lineno - written.decorator_list[0].lineno + 1 <= 15
    assert {node.name for node in written.body if isinstance(node, ast.FunctionDef)} == {"left", "right"}

    (name,) = [ast.literal_eval(decorator.args[0]) for decorator in written.decorator_list]
    model = pf.SiameseComparator(nn.Linear(5, 4), name).double()
    x1, x2 = torch.randn(3, 5).double(), torch.randn(4, 5).double()
    assert model.fusion.fast_path
    with torch.no_grad():
        one_by_one = torch.stack([model(x.expand(4, 5), x2) for x in x1])
    torch.testing.assert_close(model.score_matrix(x1, x2), one_by_one)
    assert pf.testing.check_fusion(name).ok

    hooks = load("hooks")
    row = " | ".join(hooks.fusion_row(name))
    assert re.sub("<.*?>", "", html.unescape(row)).endswith(
        "cos(u − v) | 64 | 0 | symmetric | no | generic | yes | Rahimi\N{NO-BREAK SPACE}2007"
    )
    monkeypatch.setattr(type(model.fusion), "__module__", "pairfuse.fusions.phase")  # once it ships
    assert row.replace("[page.", "[pairfuse.fusions.phase.") in hooks.fusion_table()


@pytest.mark.slow
@pytest.mark.parametrize("has_oracle", [False, True])
def test_an_operator_takes_one_class_and_one_oracle(has_oracle, tmp_path):
    """The tests of all fusions, with that of the how-to among them: only its oracle is missed, and with it all pass."""
    blocks = [block["code"] for block in BLOCK.finditer(HOW_TO.read_text())]
    (of_class,) = [code for code in blocks if '@pf.register_fusion("chi-squared")' in code]
    (of_oracle,) = [code for code in blocks if 'ORACLES["chi-squared"]' in code]
    of_class = of_class[: of_class.index("\n\n\nreport")]
    (tmp_path / "operator_plugin.py").write_text(
        f"import pairfuse as pf\n{of_class}\n{of_oracle if has_oracle else ''}"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "operator_plugin", "-k", "chi-squared or of_the_page"]
    command += ["--tb=line", *(f"tests/{part}" for part in ("fusions", "scoring", "xnor", "test_learning.py"))]
    path = os.pathsep.join([str(tmp_path), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [*command, "tests/site/test_xor_maths.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"\d\d passed", run.stdout), run.stdout + run.stderr
    if has_oracle:
        assert run.returncode == 0, run.stdout
    else:
        failed = re.findall(r"^FAILED .*$", run.stdout, re.MULTILINE)
        reasons = re.findall(r"^E .*(?:Error|Failed).*$", run.stdout, re.MULTILINE)
        assert any("test_has_an_oracle" in line for line in failed), run.stdout
        assert len(reasons) >= len(failed)
        assert all("KeyError: 'chi-squared'" in line or "oracle for 'chi-squared'" in line for line in reasons), reasons


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
