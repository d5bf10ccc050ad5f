"""The package as a whole: its public names, the direction of its imports, what importing it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pairfuse as pf
from pairfuse.diagnosis.probes import PROBES

SOURCE = Path(pf.__file__).parent
ORDER = [
    *("_checks", "_batches", "_modes", "_products", "_progress"),
    *(
        "fusions.factors",
        "fusions._distances",
        "fusions.facts",
        "fusions.base",
        "fusions._shift",
        "fusions.stack",
        "fusions.registry",
    ),
    *("fusions.additive", "fusions.elementwise", "fusions.cosine", "fusions.bilinear", "fusions.low_rank"),
    *("fusions.ntn", "fusions.presets", "fusions.wrappers", "fusions"),
    *("_encoding", "_items", "heads", "scoring.plan", "scoring.compiled", "scoring.blocks", "scoring.inner_product"),
    *("scoring.best", "scoring", "all_pairs", "comparator", "index"),
    *("xnor.segments", "xnor._features", "xnor.certificate", "xnor.margin", "xnor.pair", "xnor.classes", "xnor.bounds"),
    *("xnor", "data", "encoders"),
    *("diagnosis.modules", "diagnosis.borrowing", "diagnosis.calls", "diagnosis.grids", "diagnosis.picture"),
    *("diagnosis.items", "diagnosis.losses", "diagnosis.memorising", "diagnosis.report", "diagnosis.subject"),
    *("diagnosis.embeddings", "diagnosis.probes.result"),
    *(f"diagnosis.probes.{probe.__name__}" for probe in PROBES.values()),
    *("diagnosis.probes", "diagnosis.examine", "diagnosis", "testing.models"),
    *("testing.strategies", "testing.subject", "testing.algebra", "testing.behaviour"),
    *("testing.report", "testing.checks", "testing"),
]


def test_public_names():
    """`__all__` is sorted and is what the namespace holds."""
    public = {name for name in vars(pf) if not name.startswith("_")}
    modules = {
        "all_pairs",
        "comparator",
        "diagnosis",
        "heads",
        "scoring",
    }  # reachable, but not names of the package's surface
    when_asked_for = {"testing", "diagnose", "Diagnosis", "Finding"}
    assert (public | when_asked_for) - modules - {"TYPE_CHECKING", "Any"} == set(pf.__all__)
    assert all(hasattr(pf, name) for name in when_asked_for)
    assert pf.__all__ == sorted(pf.__all__)


def test_imports_run_one_way():
    """Every module imports only modules before it in the order of the layers, at the top of the file."""
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pairfuse"):
                package = node.module.removeprefix("pairfuse").removeprefix(".")
                for alias in node.names:
                    imported = f"{package}.{alias.name}" if f"{package}.{alias.name}" in ORDER else package
                    assert ORDER.index(imported) < ORDER.index(name), f"{name} imports {imported}"


def test_torchvision_is_imported_when_asked_for():
    """`import pairfuse` does not load torchvision, nor anything that tests, docs and examples need."""
    optional = {"torchvision", "hypothesis", "matplotlib", "scipy", "pytest", "faiss", "torch._dynamo"}
    code = f"import sys, torch; old = set(sys.modules); import pairfuse; print(({optional} & set(sys.modules)) - old)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_no_file_is_too_long():
    """A file that nobody can read in one go does two things."""
    for path in [*SOURCE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path
