"""Hypothesis strategies: embeddings on a grid where products, differences and squares are exact."""

import torch
from hypothesis import strategies as st
from torch import Tensor

GRID = st.integers(-64, 64).map(lambda n: n / 16)


def vectors(*shape: int) -> st.SearchStrategy[Tensor]:
    """A float64 tensor of grid numbers, which shrink to small round ones. A large tensor repeats 61 numbers."""
    size = torch.Size(shape).numel()
    drawn = min(size, 61)  # a prime, so the rows of a matrix differ

    def fill(numbers: list[float]) -> Tensor:
        repeated = numbers * (size // drawn + 1) if drawn else []
        return torch.tensor(repeated[:size], dtype=torch.float64).view(shape)

    return st.lists(GRID, min_size=drawn, max_size=drawn).map(fill)


@st.composite
def embedding_pairs(draw: st.DrawFn, least_width: int = 1, most_width: int = 4) -> tuple[Tensor, Tensor]:
    """Two different vectors of one width, often in a special position: collinear, permuted, zero or partly equal."""
    width = draw(st.integers(least_width, most_width))
    a = draw(vectors(width))
    kind = draw(st.sampled_from(["free", "free", "scaled", "permuted", "partly scaled", "partly equal", "zero"]))
    some = draw(vectors(width)) > 0
    if kind == "scaled":
        b = a * draw(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 2.0, 3.0]))
    elif kind == "permuted":
        b = a.flip(0)
    elif kind == "partly scaled":  # one common ratio where they differ, equal elsewhere
        b = a.where(some, a * 2)
    elif kind == "partly equal":
        b = a.where(some, draw(vectors(width)))
    elif kind == "zero":
        b = torch.zeros_like(a)
    else:
        b = draw(vectors(width))
    if draw(st.booleans()):
        a, b = b, a
    if torch.equal(a, b):
        b = b + 1
    return a, b
