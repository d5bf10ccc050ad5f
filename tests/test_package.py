"""The package as a whole: its public names, the direction of its imports, what importing it loads."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pairfuse as pf

SOURCE = Path(pf.__file__).parent
LAYERS = [  # from the ground up; a file imports from its own package and from those before it
    *("_version", "_checks", "_progress", "_layers", "_modes", "_options", "decisions", "items", "fusions", "heads"),
    *("encoders", "saving", "scoring", "_sets", "gallery", "_assembly", "_starting", "_comparing", "_deciding"),
    *("solving", "_solving"),
    *("decider", "search_modules", "_deploying", "comparator"),
    *("export", "index", "xnor", "data", "evaluation", "ranking", "diagnosis", "testing", "losses", "integrations"),
]


def test_public_names():
    """`__all__` is sorted, is what `dir` and completion list, and holds only names that exist."""
    assert pf.__all__ == sorted(pf.__all__)
    assert dir(pf) == pf.__all__
    assert all(hasattr(pf, name) for name in pf.__all__)
    files = {
        "comparator",
        "decider",
        "decisions",
        "diagnosis",
        "gallery",
        "heads",
        "integrations",
        "items",
        "saving",
        "scoring",
        "search_modules",
        "ranking",
    }  # reachable, but not public
    public = {name for name in vars(pf) if not name.startswith("_")}
    assert public - files - {"TYPE_CHECKING", "Any", "import_module"} <= set(pf.__all__)


def imports():
    """Every file of the package by its dotted name, with the names of the files that it imports."""
    names = {}
    for path in SOURCE.rglob("*.py"):
        names[".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")] = path
    graph = {}
    for name, path in names.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        found = set()
        for node in nodes:
            if (node.module or "").startswith("pairfuse"):
                package = node.module.removeprefix("pairfuse").removeprefix(".")
                for alias in node.names:
                    found.add(imported if (imported := f"{package}.{alias.name}".lstrip(".")) in names else package)
        graph[name] = found - {name}
    return graph


def test_imports_run_one_way():
    """No layer imports from a later one, and no files import each other in a circle."""
    graph = imports()
    del graph["__init__"]
    for name, imported in graph.items():
        for other in imported:
            assert LAYERS.index(other.split(".")[0]) <= LAYERS.index(name.split(".")[0]), f"{name} imports {other}"
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_torchvision_is_imported_when_asked_for():
    """`import pairfuse` does not load torchvision, nor anything that tests, docs and examples need."""
    optional = {"torchvision", "hypothesis", "matplotlib", "scipy", "sklearn", "pytest", "faiss", "torch._dynamo"}
    optional |= {"safetensors", "huggingface_hub", "onnx", "onnxscript", "onnxruntime"}
    code = f"import sys, torch; old = set(sys.modules); import pairfuse; print(({optional} & set(sys.modules)) - old)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_no_file_is_too_long():
    """A file that nobody can read in one go does two things."""
    for path in [*SOURCE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path
