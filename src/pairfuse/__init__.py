"""Compare pairs of things with PyTorch: are these two the same?"""

from typing import TYPE_CHECKING, Any

from pairfuse import data, encoders, fusions, index, xnor
from pairfuse.comparator import AdditiveComparatorError, SiameseComparator
from pairfuse.fusions import Fusion, list_fusions, make_fusion, register_fusion
from pairfuse.xnor import xnor_margin

if TYPE_CHECKING:
    from pairfuse.diagnosis import Diagnosis, Finding, diagnose

__version__ = "0.1.0"

__all__ = [
    "AdditiveComparatorError",
    "Diagnosis",
    "Finding",
    "Fusion",
    "SiameseComparator",
    "data",
    "diagnose",
    "encoders",
    "fusions",
    "index",
    "list_fusions",
    "make_fusion",
    "register_fusion",
    "testing",
    "xnor",
    "xnor_margin",
]


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: `testing` needs Hypothesis, and a diagnosis is seldom wanted."""
    from importlib import import_module

    if name == "testing":
        return import_module("pairfuse.testing")
    if name in ("Diagnosis", "Finding", "diagnose"):
        return getattr(import_module("pairfuse.diagnosis"), name)
    raise AttributeError(f"module 'pairfuse' has no attribute {name!r}")
