"""Compare pairs of things with PyTorch: are these two the same?"""

from types import ModuleType

from pairfuse import data, encoders, fusions, index, xnor
from pairfuse.comparator import AdditiveComparatorError, SiameseComparator
from pairfuse.diagnosis import Diagnosis, Finding, diagnose
from pairfuse.fusions import Fusion, list_fusions, make_fusion, register_fusion
from pairfuse.xnor import xnor_margin

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


def __getattr__(name: str) -> ModuleType:
    if name == "testing":  # imported when asked for, since it needs Hypothesis
        from importlib import import_module

        return import_module("pairfuse.testing")
    raise AttributeError(f"module 'pairfuse' has no attribute {name!r}")
