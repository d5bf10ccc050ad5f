"""Fusions made of another one: made symmetric, or normalised."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_positive
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.factors import Factors, join_factors
from pairfuse.fusions.facts import Symmetry, Xnor

__all__ = ["PowerNormalized", "Symmetrized"]


class _Wrapper(Fusion):
    """A fusion around another, of the same widths."""

    two_widths = True  # of the class; an instance can what its fusion can

    def __init__(self, fusion: Fusion) -> None:
        name = type(self).__name__
        if not isinstance(fusion, Fusion):
            raise TypeError(
                f"{name} expects a fusion, got {fusion!r}: build it first, with make_fusion(..., in_features)"
            )
        super().__init__(fusion.in_features, in2_features=fusion.in2_features)
        self.out_features = fusion.out_features
        self.fusion = fusion
        self.two_widths = fusion.two_widths

    @override
    def extra_repr(self) -> str:
        return ""


class Symmetrized(_Wrapper):
    r"""Average a fusion over both orders: `½ (f(u, v) + f(v, u))`.

    Symmetric, and can tell same from different wherever f can. It does **not** cure additivity: of `[u; v]` it makes
    `½ [u + v; u + v]`, which is a sum still. Its price is two evaluations of f.

    Args:
        fusion: A fusion with `in_features == in2_features` that is not antisymmetric.

    Shape:
        - u, v: `(..., D)`
        - Output: `(..., F)`, as of f

    Raises:
        TypeError: `fusion` is no `Fusion`.
        ValueError: Its two widths differ, so that there is nothing to swap; or it is antisymmetric, so that the
            average is 0 for every pair.

    References:
        Averaging over a group is the Reynolds operator of invariant theory; the group is that of one swap.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.Symmetrized(pf.fusions.NTN(8))
        >>> u, v = torch.randn(3, 8), torch.randn(3, 8)
        >>> torch.equal(fusion(u, v), fusion(v, u)), fusion.symmetry, fusion.xnor
        (True, 'symmetric', 'always')
        >>> pf.fusions.Symmetrized(pf.fusions.Concat(8)).additive
        True
    """

    symmetry: Symmetry = "symmetric"

    def __init__(self, fusion: Fusion) -> None:
        super().__init__(fusion)
        self.two_widths = False
        if self.in_features != self.in2_features:
            raise ValueError(
                f"Symmetrized swaps u and v, so it expects a fusion of one width, got {type(fusion).__name__} with "
                f"in_features={self.in_features} and in2_features={self.in2_features}"
            )
        if fusion.symmetry == "antisymmetric":
            raise ValueError(
                f"Symmetrized averages both orders, and {type(fusion).__name__} is antisymmetric, so that the average "
                "is 0 for every pair: take 'abs-diff' or 'squared-diff' for a difference without a sign"
            )

    @property
    def additive(self) -> bool:  # type: ignore[override]
        """Whether f is, but for parts of a stack that are antisymmetric and vanish."""
        return self.fusion.balanced

    @property
    def spans_sum(self) -> bool:  # type: ignore[override]
        """Whether f does."""
        return self.fusion.spans_sum

    @property
    def xnor(self) -> Xnor:  # type: ignore[override]
        """At least that of f; never only if f is balanced."""
        return _at_least_generic(self.fusion, self.fusion.xnor)

    @property
    def xnor_with_sum(self) -> Xnor:  # type: ignore[override]
        """Likewise."""
        return _at_least_generic(self.fusion, self.fusion.xnor_with_sum or self.fusion.xnor)

    @property
    @override
    def fast_path(self) -> bool:
        return self.fusion.fast_path

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        both: Tensor = self.fusion(u, v) + self.fusion(v, u)
        return both / 2

    @override
    def factors(self, u: Tensor, v: Tensor, weight: Tensor) -> Factors:
        straight = self.fusion.checked_factors(u, v, weight / 2)
        of_v, of_u, column, row = self.fusion.checked_factors(v, u, weight / 2)  # (K, M, R), (K or 1, N, R)
        return join_factors([straight, Factors(of_u.expand(len(weight), -1, -1), of_v, row, column)])

    @override
    def centred(self, origin: Tensor) -> Fusion:
        return self._with_modules(fusion=self.fusion.centred(origin))

    @override
    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        if self.fast_path:
            return super().score_all(u, v, weight)
        return (self.fusion.score_all(u, v, weight) + self.fusion.score_all(v, u, weight).transpose(0, 1)) / 2

    @override
    def numbers_per_pair(self, outputs: int) -> int:
        return 0 if self.fast_path else self.fusion.numbers_per_pair(outputs) + 2 * outputs

    @override
    def numbers_per_row(self) -> int:
        return 2 * self.fusion.numbers_per_row()

    @override
    def numbers_to_fuse(self) -> int:
        return self.fusion.numbers_to_fuse() + 2 * self.out_features

    @override
    def all_feature_means(self) -> list[tuple[float, float]]:
        return self.fusion.all_feature_means()


class PowerNormalized(_Wrapper):
    r"""Take signed square roots of the features, then divide them by their norm: `z = f · |f|^(−½)`, `z / ‖z‖`.

    Tames products, whose size grows with the square of the embeddings'. Symmetric or antisymmetric as f is, never
    additive; values in [−1, 1] with norm 1, 0 where f is 0. Written `f · rsqrt(|f| + eps)`, which has a finite slope
    at 0, where the square root's is infinite.

    Args:
        fusion: The fusion to normalise, such as `MFB(...)`.
        eps: Added under the root; √eps is the smallest norm to divide by. The slope at 0 is 1 / eps: if gradients
            are float16, take 1e-4.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`
        - Output: `(..., F)`, as of f

    Raises:
        TypeError: `fusion` is no `Fusion`.
        ValueError: f has one feature only, of which nothing but the sign would be left; or `eps` is not above 0.

    References:
        Perronnin, Sánchez and Mensink, *Improving the Fisher Kernel for Large-Scale Image Classification*, ECCV 2010.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.PowerNormalized(pf.fusions.Product(2))
        >>> fusion(torch.tensor([2.0, -3.0]), torch.tensor([8.0, 3.0]))
        tensor([ 0.8000, -0.6000])
    """

    additive = False

    def __init__(self, fusion: Fusion, *, eps: float = 1e-6) -> None:
        super().__init__(fusion)
        if self.out_features == 1:
            raise ValueError(
                f"PowerNormalized divides by the norm, and of the one feature of {type(fusion).__name__} only the sign "
                "would be left: give it more, such as out_features=16"
            )
        self.eps = check_positive("PowerNormalized", "eps", eps)

    @property
    def symmetry(self) -> Symmetry:  # type: ignore[override]
        """That of f."""
        return self.fusion.symmetry

    @property
    def xnor(self) -> Xnor:  # type: ignore[override]
        """At least this; never only for what is antisymmetric."""
        return "never" if self.balanced else "generic"

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        fused: Tensor = self.fusion(u, v)
        wide = fused.to(torch.promote_types(fused.dtype, torch.float32))  # half precision overflows at small eps
        roots = wide * (wide.abs() + self.eps).rsqrt()
        return nn.functional.normalize(roots, dim=-1, eps=self.eps**0.5).to(fused.dtype)

    @override
    def numbers_to_fuse(self) -> int:
        return self.fusion.numbers_to_fuse() + 5 * self.out_features

    @override
    def extra_repr(self) -> str:
        return f"eps={self.eps}"


def _at_least_generic(fusion: Fusion, xnor: Xnor) -> Xnor:
    """What a fusion can do once it is symmetric: |u − v| + 3 (u − v), say, learns only then."""
    return "generic" if xnor == "never" and not fusion.balanced else xnor
