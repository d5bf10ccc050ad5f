"""Hypothesis strategies: embeddings on a grid on which product, difference and square are exact."""

import torch
from hypothesis import strategies as st

GRID = st.integers(-64, 64).map(lambda n: n / 16)


def vectors(width: int):
    """A vector of grid floats, `(width,)`, float64."""
    return st.lists(GRID, min_size=width, max_size=width).map(lambda x: torch.tensor(x, dtype=torch.float64))


@st.composite
def embedding_pairs(draw, max_width: int = 4, special: bool = True):
    """Two different vectors of one width; often in a special position: collinear, zero, or equal in places."""
    width = draw(st.integers(1, max_width))
    a = draw(vectors(width))
    kind = draw(
        st.sampled_from(["free", "free", "scaled", "partly scaled", "partly equal", "zero"] if special else ["free"])
    )
    if kind == "scaled":
        b = a * draw(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 2.0, 3.0]))
    elif kind == "partly scaled":  # one common ratio where they differ, equal elsewhere
        b = a.where(torch.tensor(draw(st.lists(st.booleans(), min_size=width, max_size=width))), a * 2)
    elif kind == "partly equal":
        b = a.where(torch.tensor(draw(st.lists(st.booleans(), min_size=width, max_size=width))), draw(vectors(width)))
    elif kind == "zero":
        b = torch.zeros_like(a)
    else:
        b = draw(vectors(width))
    if draw(st.booleans()):
        a, b = b, a
    if torch.equal(a, b):
        b = b + 1
    return a, b
