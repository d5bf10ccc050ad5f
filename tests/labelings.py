"""Labels of a few identities, some with one item, among unlabeled items: a Hypothesis strategy."""

import torch
from hypothesis import strategies as st


@st.composite
def labelings(draw):
    """Labels `(N,)` in any order, of at least two identities, one of which has at least two items."""
    sizes = [draw(st.integers(2, 12)), *draw(st.lists(st.integers(1, 12), min_size=1, max_size=7))]
    labels = [3 * identity for identity, size in enumerate(sizes) for _ in range(size)]
    return torch.tensor(draw(st.permutations(labels + [-1] * draw(st.integers(0, 3)))))
