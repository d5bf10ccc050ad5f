"""Fusions: how two embeddings become one vector of features."""

from pairfuse.fusions.base import Fusion
from pairfuse.fusions.bilinear import Bilinear
from pairfuse.fusions.concat import Concat
from pairfuse.fusions.elementwise import AbsDiff, Product
from pairfuse.fusions.registry import list_fusions, make_fusion, register_fusion
from pairfuse.fusions.stack import Stack

__all__ = [
    "AbsDiff",
    "Bilinear",
    "Concat",
    "Fusion",
    "Product",
    "Stack",
    "list_fusions",
    "make_fusion",
    "register_fusion",
]
