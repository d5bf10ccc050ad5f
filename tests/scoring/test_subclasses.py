"""Fusions made of others by subclassing or patching: all pairs are scored by the function that runs."""

import pytest
import torch
from scoring_cases import HEADS, assert_equal, build, paired, randn

from pairfuse.fusions import AbsDiff, Bilinear, Concat, InferSent, Product, SquaredDiff, Stack, Symmetrized


class Doubled(Product):
    symmetry, additive, xnor = "symmetric", False, "generic"

    def fuse(self, u, v):
        return 2 * super().fuse(u, v)


class CappedDistance(AbsDiff):
    symmetry, additive, xnor = "symmetric", False, "generic"

    def fuse(self, u, v):
        return super().fuse(u, v).clamp(max=0.5)


class ForwardToo(Bilinear):
    symmetry, additive, xnor = "none", False, "generic"

    def forward(self, u, v):
        return super().forward(u, v).tanh()


class TermsBelowForward(ForwardToo):
    symmetry, additive, xnor = "none", False, "generic"

    def left(self, u):
        return super().left(2 * u)

    def right(self, v):
        return super().right(v)


class CalledOtherwise(Product):
    symmetry, additive, xnor = "symmetric", False, "generic"

    def __call__(self, u, v):
        return super().__call__(u, v).tanh()


class StackAndMore(Stack):
    symmetry, additive, xnor = "symmetric", False, "generic"

    def fuse(self, u, v):
        return super().fuse(u, v).tanh()


class DeclaresItself(Stack):
    """Facts computed anew, for a `fuse` that is not a stack any more."""

    def _declare(self, parts):
        self.symmetry, self.additive, self.xnor = "symmetric", False, "generic"

    @property
    def fusions(self):
        return [*self.parts]

    def fuse(self, u, v):
        return torch.cat([part(u, v).tanh() for part in self.fusions], -1)


class Larger(Symmetrized):
    """Symmetric by the maximum, not by the mean."""

    def _declare(self, fusion):
        self.symmetry, self.additive, self.xnor = "symmetric", False, "generic"

    def fuse(self, u, v):
        return torch.maximum(self.fusion(u, v), self.fusion(v, u))


@pytest.mark.parametrize(
    "fusion",
    [
        Doubled,
        CappedDistance,
        ForwardToo,
        TermsBelowForward,
        CalledOtherwise,
        lambda width: DeclaresItself([Product(width), AbsDiff(width)]),
        lambda width: Larger(Bilinear(width, 3)),
        lambda width: StackAndMore([Product(width), AbsDiff(width)]),
        lambda width: Stack([Doubled(width), AbsDiff(width)]),
        lambda width: Symmetrized(Doubled(width)),
    ],
)
def test_a_fusion_made_of_another_is_scored_as_itself(fusion):
    """What its parent knows of all pairs does not hold for a new `fuse`."""
    model = build(fusion, HEADS["linear"], 3)
    u, v = randn(3, 3), randn(4, 3, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v), paired(model, u, v), 1e-12)


def test_a_patched_fusion_is_scored_as_patched():
    model = build("product", HEADS["linear"], 3)
    model.fusion.fuse = lambda u, v: u * v + 1
    u, v = randn(3, 3), randn(4, 3, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v), paired(model, u, v), 1e-12)


PATCHED = {  # a fusion, and the class that is patched: its own or a parent
    "product": (Product, Product),
    "squared-diff": (SquaredDiff, SquaredDiff),
    "abs-diff": (AbsDiff, AbsDiff),
    "concat": (Concat, Concat),
    "stack": (lambda width: Stack([Product(width), AbsDiff(width)]), Stack),
    "preset": (InferSent, Stack),
    "part of a stack": (lambda width: Stack([Product(width), AbsDiff(width)]), Product),
    "symmetrized": (lambda width: Symmetrized(Bilinear(width)), Symmetrized),
}


@pytest.mark.parametrize("method", ["fuse", "forward", "left"])
@pytest.mark.parametrize(("fusion", "cls"), PATCHED.values(), ids=PATCHED)
def test_a_class_that_is_patched_later_is_scored_as_patched(fusion, cls, method, monkeypatch):
    """What was known when the class was made describes another function."""
    old = getattr(cls, method, None)
    if method == "left":
        if old is None or cls is Concat:
            return
        monkeypatch.setattr(cls, "left", lambda self, u: [None if a is None else 2 * a for a in old(self, u)])
    else:
        monkeypatch.setattr(cls, method, lambda self, u, v: old(self, u, v) * u.mean(-1, keepdim=True))
    model = build(fusion, HEADS["linear"], 3)
    u, v = randn(3, 3), randn(4, 3, seed=1)
    with torch.no_grad():
        assert_equal(model.score_embeddings(u, v), paired(model, u, v), 1e-12)
