"""The pages of the documentation, read and run as the tests do it."""

import importlib.util
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)


def read(page):
    """The text of a page, with the files that it shows."""
    files = [ROOT, ROOT / "docs"]
    named = r'^--8<-- "(.*)"$'
    return re.sub(
        named,
        lambda m: next(f / m[1] for f in files if (f / m[1]).is_file()).read_text().rstrip(),
        page.read_text(),
        flags=re.MULTILINE,
    )


def run_page(page):
    text, namespace = read(page), {"__name__": "page"}
    for block in BLOCK.finditer(text):
        first_line = text[: block.start("code")].count("\n")
        code = compile("\n" * first_line + block["code"], str(page), "exec")
        printed = StringIO()
        with redirect_stdout(printed):
            exec(code, namespace)
        if block["output"] is not None:
            assert printed.getvalue() == block["output"], f"{page.name}, line {first_line}"
    return namespace


def load(name):
    """A module of the folder `docs`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
