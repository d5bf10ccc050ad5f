"""The contract that every fusion keeps."""

import copy
from typing import Any, Self

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_embeddings, check_fused, check_int
from pairfuse.fusions.factors import Factors, linear, score_pairs
from pairfuse.fusions.facts import Facts, Symmetry, Xnor, check_facts
from pairfuse.items.batches import expand_pairs

_SHORTCUTS = {
    *("factors", "score_all", "centred", "terms", "fast_path"),
    *("numbers_per_pair", "numbers_per_row", "numbers_to_fuse"),
}


class Fusion(nn.Module):
    """Combine two embeddings into one vector of fused features: `(u, v)` → `fusion(u, v)`.

    A subclass declares `symmetry`, `additive` and `xnor`, writes `fuse`, and sets `out_features` where it is not
    `in_features`. `SiameseComparator` relies on what is declared; `pairfuse.testing.check_fusion` proves it. A subclass
    that writes the `fuse` of its parent anew inherits neither `factors` nor another shortcut to all pairs.

    Attributes:
        symmetry: `"symmetric"`: `f(u, v) = f(v, u)`; `"antisymmetric"`: `f(u, v) = −f(v, u)`; or `"none"`.
        additive: Whether `f(u, v) = g(u) + h(v)`: then no logit of an affine head on it can answer "same or
            different".
        xnor: Whether one linear layer with bias can tell (a, a), (b, b) from (a, b), (b, a) for a ≠ b and some
            parameters of the fusion: `"never"`, `"generic"` (except where a and b stand in a special position),
            or `"always"`.
        xnor_with_sum: What `xnor` becomes where the linear layer sees u + v too, as in `[u, v, u ∘ v]`. Optional:
            the same as `xnor`.
        spans_sum: Whether a linear layer on the features can compute u + v. Optional: False.
        feature_means: The mean of a feature over same pairs (u, u), and over different pairs (u, v) of independent
            standard normal embeddings; heads are initialised by it. Optional: `(0.0, 0.0)` says nothing.
        two_widths: Whether `u` and `v` may differ in width. Optional: False.
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`.
        out_features: Width F of the fused features.

    Args:
        in_features: Width D of the left embedding `u`, at least 1.
        in2_features: Width of the right embedding `v`; the same as `in_features` by default.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`, with the same leading dimensions
        - Output: `(..., F)`, where F is `out_features`

    Raises:
        TypeError: A fact is not declared, or the embeddings are not floating-point.
        ValueError: A fact, a width or a shape is not as it must be.

    Examples:
        >>> import torch, pairfuse as pf
        >>> class Larger(pf.Fusion):
        ...     symmetry, additive, xnor = "symmetric", False, "generic"
        ...     def fuse(self, u, v):
        ...         return torch.maximum(u, v)
        >>> Larger(3)(torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[4.0, 0.0, 2.0]]))
        tensor([[4., 5., 2.]])
    """

    symmetry: Symmetry
    additive: bool
    xnor: Xnor
    xnor_with_sum: Xnor | None = None
    spans_sum: bool = False
    feature_means: tuple[float, float] = (0.0, 0.0)
    two_widths: bool = False

    in_features: int
    in2_features: int
    out_features: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Where `fuse` is written anew, no shortcut to the scores of all pairs is inherited: it is that of the old."""
        super().__init_subclass__(**kwargs)
        replaced = any("fuse" in vars(base) for base in cls.__mro__[1:] if base is not Fusion)
        if replaced and {"fuse", "forward"} & vars(cls).keys():
            for name in _SHORTCUTS - vars(cls).keys():
                setattr(cls, name, vars(Fusion)[name])

    def __init__(self, in_features: int, *, in2_features: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        check_facts(type(self))
        in2_features = in_features if in2_features is None else in2_features
        in_features = check_int(name, "in_features", in_features)
        in2_features = check_int(name, "in2_features", in2_features)
        if in2_features != in_features and not self.two_widths:
            raise ValueError(
                f"{name} expects embeddings of one width, got in_features={in_features} and "
                f"in2_features={in2_features}: make them equal, or take a fusion for two widths, such as 'bilinear'"
            )
        self.in_features = in_features
        self.in2_features = in2_features
        self.out_features = in_features

    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        """Fuse embeddings whose shapes have been checked: `(..., D)`, `(..., D2)` → `(..., F)`.

        Write it so that it works under any leading dimensions and treats every row alike.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fuse(self, u, v)")

    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors | tuple[Tensor, Tensor]:
        """What a linear layer says of every pair, as one matrix product: optional.

        The left side must depend on `u` and the weight only, the right side on `v` and the weight only.

        Args:
            u: N left embeddings `(N, D)`.
            v: M right embeddings `(M, D2)`.
            weight: The weight of a linear layer on the features, `(K, F)`.

        Returns:
            `left` of shape `(K, N, R)` and `right` of shape `(K, M, R)` or `(1, M, R)`, such that
            `(left @ right.mT)[k, i, j] = weight[k] · fusion(u[i], v[j])`; or `Factors`, which may add a number for each
            item.
        """
        raise NotImplementedError(f"{type(self).__name__} has no factors: score its pairs block by block")

    def checked_factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        """The factors, as `Factors`; raises unless their shapes are as they must be."""
        given: Any = self.factors(u, v, weight)
        fit = isinstance(given, tuple) and len(given) in (2, 4) and all(isinstance(x, Tensor) for x in given[:2])
        if fit:
            left, right = given[:2]
            fit = left.ndim == right.ndim == 3 and left.shape[:2] == (len(weight), len(u)) and len(v) == right.shape[1]
            fit = fit and left.shape[2] == right.shape[2] and len(right) in (1, len(weight))
        if not fit:
            parts = given if isinstance(given, tuple) else [given]
            shapes = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in parts]
            raise ValueError(
                f"{type(self).__name__}.factors must return left (K, N, R) and right (K or 1, M, R), here with "
                f"K = {len(weight)}, N = {len(u)}, M = {len(v)}, got {shapes}"
            )
        return Factors(*given)

    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        """A linear layer without bias on every pair: `(N, D)`, `(M, D2)` and `(K, F)` give `(N, M, K)`.

        One matrix product where there are `factors`; else `fuse` on every pair, in memory for N · M · F numbers.
        Scorers call it block by block.
        """
        if self.fast_path:
            at = self.centred(v.detach().mean(0)) if len(v) else self
            return score_pairs(at.checked_factors(u, v, weight))
        return linear(self(*expand_pairs(u, v)), weight)  # of (N, M, F)

    def centred(self, origin: Tensor) -> "Fusion":
        """The same function, with factors that are accurate near a point `(D,)`; optional, most need no such thing."""
        return self

    def terms(self, weight: Tensor) -> list[tuple["Fusion", Tensor]]:
        """The linear layer as a sum over fusions, each with its part of the weight: of a stack, its parts."""
        return [(self, weight)]

    def numbers_per_pair(self, outputs: int) -> int:
        """About how many numbers `score_all` holds for each pair and beside its result; blocks are sized by it."""
        return 0 if self.fast_path else self.numbers_to_fuse()

    def numbers_per_row(self) -> int:
        """About how many it holds for each left embedding, where it has no factors."""
        return 0

    def numbers_to_fuse(self) -> int:
        """About how many numbers `fuse` holds for each pair."""
        return 2 * (self.in_features + self.in2_features + self.out_features)

    @property
    def fast_path(self) -> bool:
        """Whether the fusion has `factors`."""
        return type(self).factors is not Fusion.factors

    @override
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Check the shapes once, then `fuse`."""
        check_embeddings(type(self).__name__, u, v, self.in_features, self.in2_features)
        fused = self.fuse(u, v)
        check_fused(type(self).__name__, fused, u.shape[:-1], self.out_features)
        return fused

    @property
    def balanced(self) -> bool:
        """Whether `f(a, a) + f(b, b) = f(a, b) + f(b, a)` for all a, b: so that no linear layer can learn XNOR.

        True of sums, and of what is antisymmetric.
        """
        return self.additive or self.symmetry == "antisymmetric"

    def facts(self) -> Facts:
        """All that is declared, with the widths and the number of parameters; raises if it contradicts itself."""
        check_facts(self)
        return Facts(
            fusion=type(self).__name__,
            in_features=self.in_features,
            in2_features=self.in2_features,
            out_features=self.out_features,
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            symmetry=self.symmetry,
            additive=self.additive,
            xnor=self.xnor,
            two_widths=self.two_widths,
            fast_path=self.fast_path,
        )

    def all_feature_means(self) -> list[tuple[float, float]]:
        """The feature_means of every feature, F in all."""
        return [self.feature_means] * self.out_features

    def _with_modules(self, **modules: nn.Module) -> Self:
        """The same fusion around other submodules."""
        twin = copy.copy(self)
        twin.__dict__["_modules"] = {**self._modules, **modules}  # the original's own stay as they are
        return twin

    def _require_one_width(self, option: str) -> None:
        """Raise unless both sides have one width, which an option needs."""
        if self.in_features != self.in2_features:
            raise ValueError(
                f"{type(self).__name__} expects one width with {option}, "
                f"got in_features={self.in_features} and in2_features={self.in2_features}"
            )

    @override
    def extra_repr(self) -> str:
        in2 = f", in2_features={self.in2_features}" if self.in2_features != self.in_features else ""
        return f"in_features={self.in_features}{in2}, out_features={self.out_features}"
