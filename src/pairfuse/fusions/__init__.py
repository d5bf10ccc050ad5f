"""Fusions: how two embeddings become one vector of features."""

from pairfuse.fusions import additive, bilinear, cosine, elementwise, low_rank, ntn, presets, stack, wrappers
from pairfuse.fusions.additive import *
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.bilinear import *
from pairfuse.fusions.cosine import *
from pairfuse.fusions.elementwise import *
from pairfuse.fusions.factors import Factors
from pairfuse.fusions.facts import Facts
from pairfuse.fusions.low_rank import *
from pairfuse.fusions.ntn import *
from pairfuse.fusions.presets import *
from pairfuse.fusions.registry import list_fusions, make_fusion, register_fusion
from pairfuse.fusions.stack import *
from pairfuse.fusions.wrappers import *

# Every family names its own, so that a new operator is written in one file.
_FAMILIES = (additive, bilinear, cosine, elementwise, low_rank, ntn, presets, stack, wrappers)
__all__ = ["Factors", "Facts", "Fusion", "list_fusions", "make_fusion", "register_fusion"]
__all__ += [name for family in _FAMILIES for name in family.__all__]
