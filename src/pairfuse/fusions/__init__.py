"""Fusions: how two embeddings become one vector of features."""

from pairfuse.fusions import (
    additive,
    bilinear,
    city_block,
    cosine,
    elementwise,
    low_rank,
    ntn,
    presets,
    quadratic,
    stack,
    wrappers,
)
from pairfuse.fusions.additive import *
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.bilinear import *
from pairfuse.fusions.city_block import *
from pairfuse.fusions.cosine import *
from pairfuse.fusions.elementwise import *
from pairfuse.fusions.facts import Facts
from pairfuse.fusions.low_rank import *
from pairfuse.fusions.ntn import *
from pairfuse.fusions.presets import *
from pairfuse.fusions.quadratic import *
from pairfuse.fusions.registry import list_fusions, make_fusion, register_fusion
from pairfuse.fusions.separable import Separable
from pairfuse.fusions.stack import *
from pairfuse.fusions.wrappers import *

# Every family lists its own names, so a new operator needs one file.
_FAMILIES = (additive, bilinear, city_block, cosine, elementwise, low_rank, ntn, presets, quadratic, stack, wrappers)
__all__ = ["Facts", "Fusion", "Separable", "list_fusions", "make_fusion", "register_fusion"]
__all__ += [name for family in _FAMILIES for name in family.__all__]
