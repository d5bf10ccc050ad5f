"""Every Python block in README.md and docs runs, and prints the text block that follows it, if one does."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name
)
def test_code_blocks(page, registry_restored):
    """The blocks of a page run in order, in one namespace, as a reader would type them."""
    text, namespace = page.read_text(), {"__name__": "page"}
    for block in BLOCK.finditer(text):
        first_line = text[: block.start("code")].count("\n")
        code = compile("\n" * first_line + block["code"], str(page), "exec")
        printed = StringIO()
        with redirect_stdout(printed):
            exec(code, namespace)
        if block["output"] is not None:
            assert printed.getvalue() == block["output"], f"{page.name}, line {first_line}"


def test_no_block_is_overlooked():
    """A block with other fences or indentation would be shown but never run."""
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"(```|~~~)\s*\{?\.?(py|python)", text)) == len(BLOCK.findall(text)), page
