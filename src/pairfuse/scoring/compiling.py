"""Tiles as one fused kernel of torch.compile, or without it where there is no compiler."""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pairfuse.scoring.factors import Factors
from pairfuse.scoring.plan import Plan

MODELS = 64  # kinds of models that a process can compile; torch's own limit of 8 is for one model's shapes


def score_compiled(plan: Plan, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor | None:
    """What the plan says of a tile, by a compiled kernel; None, with a warning, if torch cannot compile it."""
    u, v = u[:], v[:]  # tensors of our own to mark
    factors = [part.block(slice(None), slice(None)) for part in factors]
    sides: list[tuple[Tensor | None, int]] = [(u, 0), (v, 0)]
    for part in factors:
        sides += [(part.left, 1), (part.right, 1), (part.row, 0), (part.column, 0)]
    for tensor, dim in sides:
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, dim)  # or every new number of rows would compile anew
    try:
        with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=MODELS):
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # torch looks at it
            scores: Tensor = _compiled()(plan, u, v, factors)
    except Exception as error:  # whatever goes wrong in a compiler; an error of the model's own comes again without it
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            f"compile=True: torch.compile failed ({type(error).__name__}: {reason}); scoring goes on without it, with "
            "the same results. It needs a C++ compiler on a CPU, or Triton on a GPU",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return scores


def _score(plan: Plan, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor:
    if not torch.compiler.is_compiling():  # torch gave up; as ordinary code such a tile would not fit into the budget
        raise RuntimeError(f"more than {MODELS} kinds of models were compiled in this process")
    return plan.forward(u, v, factors)


@cache
def _compiled() -> Any:
    return torch.compile(_score, fullgraph=True)
