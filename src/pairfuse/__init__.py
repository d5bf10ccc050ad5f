"""Compare pairs of things with PyTorch: are these two the same?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pairfuse import data, encoders, fusions, index, losses, solving, xnor
from pairfuse._assembly import AdditiveComparatorError
from pairfuse._version import __version__ as __version__
from pairfuse.comparator import SiameseComparator
from pairfuse.fusions import Fusion, list_fusions, make_fusion, register_fusion
from pairfuse.gallery import Gallery
from pairfuse.xnor import xnor_margin

if TYPE_CHECKING:
    from pairfuse.diagnosis import Diagnosis, Finding, diagnose
    from pairfuse.evaluation import evaluate, evaluate_folds, evaluate_pairs, evaluate_scores, evaluate_search
    from pairfuse.ranking import rank_fusions

__all__ = [
    "AdditiveComparatorError",
    "Diagnosis",
    "Finding",
    "Fusion",
    "Gallery",
    "SiameseComparator",
    "data",
    "diagnose",
    "encoders",
    "evaluate",
    "evaluate_folds",
    "evaluate_pairs",
    "evaluate_scores",
    "evaluate_search",
    "evaluation",
    "export",
    "fusions",
    "index",
    "list_fusions",
    "losses",
    "make_fusion",
    "rank_fusions",
    "register_fusion",
    "solving",
    "testing",
    "xnor",
    "xnor_margin",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `testing` needs Hypothesis, and few programs need the others."""
    if name in ("evaluation", "export", "testing"):
        return import_module(f"pairfuse.{name}")
    if name.startswith("evaluate"):
        return getattr(import_module("pairfuse.evaluation"), name)
    if name == "rank_fusions":
        return getattr(import_module("pairfuse.ranking"), name)
    if name in ("Diagnosis", "Finding", "diagnose"):
        return getattr(import_module("pairfuse.diagnosis"), name)
    raise AttributeError(f"module 'pairfuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, including those that are imported on first use."""
    return __all__
