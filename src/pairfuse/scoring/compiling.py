"""Score tiles by a fused kernel of torch.compile, if there is a compiler."""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pairfuse.scoring.factors import Factors
from pairfuse.scoring.plan import Plan

MODELS = 64  # kinds of models that a process can compile; torch's limit of 8 is meant for the shapes of one model


def score_compiled(plan: Plan, u: Tensor, v: Tensor, factors: list[Factors]) -> Tensor | None:
    """Return the scores of a tile by a compiled kernel; None, with a warning, if torch cannot compile it."""
    u, v = u[:], v[:]  # new tensors, which can be marked
    factors = [part.block(slice(None), slice(None)) for part in factors]
    sides: list[tuple[Tensor | None, int]] = [(u, 0), (v, 0)]
    for part in factors:
        sides += [(part.left, 1), (part.right, 1), (part.row, 0), (part.column, 0)]
    for tensor, dim in sides:
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, dim)  # else torch compiles again for every number of rows
    try:
        with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=MODELS):
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # torch reads it
            scores: Tensor = _compiled()(plan, u, v, factors)
    except Exception as error:  # of any kind; an error of the model is raised again without the compiler
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
    if not torch.compiler.is_compiling():  # torch gave up; without it the tile would exceed the budget
        raise RuntimeError(f"more than {MODELS} kinds of models were compiled in this process")
    return plan.forward(u, v, factors)


@cache
def _compiled() -> Any:
    return torch.compile(_score, fullgraph=True)
