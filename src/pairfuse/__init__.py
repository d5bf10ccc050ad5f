"""Compare pairs of things with PyTorch: are these two the same?"""

from pairfuse import data, encoders, fusions
from pairfuse.comparator import AdditiveComparatorError, SiameseComparator
from pairfuse.fusions import Fusion, list_fusions, make_fusion, register_fusion
from pairfuse.xnor import xnor_margin

__version__ = "0.1.0"

__all__ = [
    "AdditiveComparatorError",
    "Fusion",
    "SiameseComparator",
    "data",
    "encoders",
    "fusions",
    "list_fusions",
    "make_fusion",
    "register_fusion",
    "xnor_margin",
]
