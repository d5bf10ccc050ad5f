"""Fusions that are sums of products. Each factor is a function of one side."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from typing_extensions import override

from pairfuse._modes import eval_mode
from pairfuse.fusions.base import ABSTRACT, Fusion, depth_in, knows_fuse

Terms: TypeAlias = Sequence[Tensor | None]


class Separable(Fusion):
    """A fusion that is a sum of products: `f(u, v) = Σ_s A_s(u) ∘ B_s(v)`.

    A subclass declares `symmetry` and `xnor` and defines two methods: `left(u)` returns the A_s, `right(v)` the B_s.
    None stands for the constant 1. From these two methods follow `fuse`, `additive` (every product has a constant
    side), and one matrix product that scores all pairs. Neither method may depend on the head, so the vectors of a
    gallery stay valid when the head is trained.

    A subclass may also define its own, more exact `fuse`: `(u − v)²` is inaccurate if computed as `u² − 2uv + v²`.

    Attributes:
        summed: If True, feature f is the sum of the products over R. Terms are `(..., F, R)`, or `(..., R)` if they are
            the same for all features; with F > 1 at least one is `(..., F, R)`. If False, terms are `(..., F)`.

    Examples:
        >>> import torch, pairfuse as pf
        >>> class Polynomial(pf.fusions.Separable):
        ...     '''`u ∘ v + u² ∘ v²`'''
        ...     symmetry, xnor = "symmetric", "generic"
        ...     def left(self, u):
        ...         return u, u.square()
        ...     def right(self, v):
        ...         return v, v.square()
        >>> fusion = Polynomial(2)
        >>> fusion(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([12., 56.])
        >>> fusion.additive, fusion.fast_path
        (False, True)
    """

    summed: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derive `fuse` from `left` and `right` if a subclass defines these below the inherited `fuse`."""
        if min(depth_in(cls, "left"), depth_in(cls, "right")) < depth_in(cls, "fuse"):
            cls.fuse = Separable.fuse  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)
        if depth_in(cls, "fuse") < min(depth_in(cls, "additive"), depth_in(cls, "left"), depth_in(cls, "right")):
            cls.additive = None  # type: ignore[assignment]  # the terms describe another `fuse`

    def left(self, u: Tensor) -> Terms:
        """Return A_1(u), A_2(u), …: each `(..., F)`, or as for `summed`. None stands for 1."""
        raise NotImplementedError(f"{type(self).__name__} must define left(self, u)")

    def right(self, v: Tensor) -> Terms:
        """Return B_1(v), B_2(v), …, as many as `left` returns."""
        raise NotImplementedError(f"{type(self).__name__} must define right(self, v)")

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        fused: Tensor | None = None
        for a, b in self._pair_terms(self.left(u), self.right(v)):
            if self.summed:
                a, b = (x if x is None or x.ndim > u.ndim else x.unsqueeze(-2) for x in (a, b))
            product = b if a is None else a if b is None else a * b
            assert product is not None
            product = product.sum(-1) if self.summed else product
            fused = product if fused is None else fused + product
        assert fused is not None
        if not self.summed and (fused.ndim > u.ndim or fused.shape[-1:] != (self.out_features,)):
            raise ValueError(
                f"the terms of {type(self).__name__}.left and .right must have shape (..., {self.out_features}), got "
                f"products of shape {tuple(fused.shape)}{self._hint_at_shape(fused, u.ndim)}"
            )
        return fused

    def _hint_at_shape(self, x: Tensor, ndim: int) -> str:
        """Return advice for a term of another shape, for embeddings of `ndim` dimensions."""
        summed = "if each feature is a sum over the last dimension, set summed = True"
        if x.ndim == ndim:
            return f": set self.out_features = {x.shape[-1]} in __init__; or, {summed}"
        return f": {summed}" if x.ndim == ndim + 1 and x.shape[-2] == self.out_features else ""

    def _pair_terms(self, left: Terms, right: Terms) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the pairs (A_s, B_s); raise unless both sides are sequences of one length without an empty product."""
        for method, argument, side in (("left", "u", left), ("right", "v", right)):
            if isinstance(side, Tensor):
                raise ValueError(
                    f"{type(self).__name__}: {method} must return a tuple of tensors, got a Tensor: write `return "
                    f"({argument},)`"
                )
        fits = all(isinstance(side, (tuple, list)) for side in (left, right)) and len(left) == len(right) > 0
        pairs = list(zip(left, right, strict=True)) if fits else []
        if not fits or any(a is None and b is None for a, b in pairs):
            came = [f"{len(side)} terms" if hasattr(side, "__len__") else type(side).__name__ for side in (left, right)]
            raise ValueError(
                f"{type(self).__name__}.left and .right must return as many terms each, as tuples or lists of tensors "
                f"with at most one None in a pair, got {came[0]} and {came[1]}"
            )
        return pairs

    @property
    def additive(self) -> bool:  # type: ignore[override]
        """True if every product has a constant side."""
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))
        with torch.no_grad(), eval_mode(self) as still:
            left = still.left(like.new_zeros(1, self.in_features))
            right = still.right(like.new_zeros(1, self.in2_features))
        return all(a is None or b is None for a, b in self._pair_terms(left, right))

    @property
    @override
    def fast_path(self) -> bool:
        return knows_fuse(self, "left", "right")


ABSTRACT.add(Separable)
