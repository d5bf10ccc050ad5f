"""Separable fusions whose `left` and `right` break the law of terms."""

from pairfuse.fusions import Separable


class GoodSeparable(Separable):
    symmetry, xnor = "symmetric", "generic"

    def left(self, u):
        return (u,)

    def right(self, v):
        return (v,)

    def fuse(self, u, v):
        return u * v


class WrongTerms(GoodSeparable):
    symmetry, xnor = "symmetric", "generic"

    def right(self, v):
        return (v + 1,)

    def fuse(self, u, v):
        return u * v


class TermsOfOneRow(GoodSeparable):
    """Right for one pair of embeddings, wrong under other leading dimensions."""

    symmetry, xnor = "symmetric", "generic"

    def left(self, u):
        return (u if u.ndim == 2 else 2 * u,)

    def fuse(self, u, v):
        return u * v


class TermsWithoutGradient(GoodSeparable):
    symmetry, xnor = "symmetric", "generic"

    def left(self, u):
        return (u.detach(),)

    def fuse(self, u, v):
        return u * v


class TermsInFloat64(GoodSeparable):
    symmetry, xnor = "symmetric", "generic"

    def left(self, u):
        return (u.double(),)

    def fuse(self, u, v):
        return u * v
