"""Fusions that wrap another fusion, to make it symmetric or to normalize it."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_positive
from pairfuse.fusions.base import Fusion, computes_as
from pairfuse.fusions.facts import Xnor

__all__ = ["PowerNormalized", "Symmetrized"]


class _Wrapper(Fusion):
    """A fusion that wraps another one of the same widths."""

    def __init__(self, fusion: Fusion) -> None:
        name = type(self).__name__
        if not isinstance(fusion, Fusion):
            raise TypeError(
                f"{name} expects a fusion, got {fusion!r}: build it first, with make_fusion(..., in_features)"
            )
        self.two_widths = fusion.two_widths
        if "_declare" in self._written:
            self._declare(fusion)
        super().__init__(fusion.in_features, in2_features=fusion.in2_features)
        self.out_features = fusion.out_features
        self._embedding_size = fusion._embedding_size
        self.fusion = fusion

    def _declare(self, fusion: Fusion) -> None:
        """Compute every fact from the facts of the wrapped fusion."""
        raise NotImplementedError

    @override
    def extra_repr(self) -> str:
        return ""


class Symmetrized(_Wrapper):
    r"""Average a fusion over both orders: `½ (f(u, v) + f(v, u))`.

    Symmetric; it can tell same from different wherever f can. It does **not** fix additivity: `[u; v]` becomes
    `½ [u + v; u + v]`, which is still a sum. It evaluates f twice.

    Args:
        fusion: A fusion with `in_features == in2_features` that is not antisymmetric.

    Raises:
        TypeError: `fusion` is not a `Fusion`.
        ValueError: Its two widths differ, so u and v cannot be swapped; or it is antisymmetric, so the average is 0 for
            every pair.

    References:
        Averaging over a group is the Reynolds operator of invariant theory. Here the group is the swap of u and v.

    Examples:
        >>> import torch, pairfuse as pf
        >>> fusion = pf.fusions.Symmetrized(pf.fusions.NTN(8))
        >>> u, v = torch.randn(3, 8), torch.randn(3, 8)
        >>> torch.equal(fusion(u, v), fusion(v, u)), fusion.symmetry, fusion.xnor
        (True, 'symmetric', 'always')
        >>> pf.fusions.Symmetrized(pf.fusions.Concat(8)).additive
        True
    """

    symmetry = "symmetric"

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
                f"Symmetrized averages both orders, but {type(fusion).__name__} is antisymmetric, so the average "
                "is 0 for every pair: use 'abs-diff' or 'squared-diff' for a difference without a sign"
            )

    @override
    def _declare(self, fusion: Fusion) -> None:
        self.additive = fusion._balanced  # antisymmetric parts of a stack become 0
        self.spans_sum = fusion.spans_sum
        self.xnor = _at_least_generic(fusion, fusion.xnor)
        self.xnor_with_sum = _at_least_generic(fusion, fusion.xnor_with_sum or fusion.xnor)

    @property
    @override
    def fast_path(self) -> bool:
        return computes_as(self, Symmetrized) and self.fusion.fast_path

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        both: Tensor = self.fusion(u, v) + self.fusion(v, u)
        return both / 2

    @override
    def all_feature_means(self) -> list[tuple[float, float]]:
        return self.fusion.all_feature_means() if computes_as(self, Symmetrized) else super().all_feature_means()


class PowerNormalized(_Wrapper):
    r"""Take signed square roots of the features, then divide them by their norm: `z = f · |f|^(−½)`, `z / ‖z‖`.

    Use it for products, which grow with the square of the embeddings. It has the symmetry of f and is never additive;
    values in [−1, 1], 0 where f is 0, with norm 1 unless f is about as small as `eps`. It is computed as
    `f · rsqrt(|f| + eps)`, because the slope of the square root at 0 is infinite.

    Args:
        fusion: The fusion to normalize, such as `MFB(...)`.
        eps: Added under the root; √eps is the smallest norm to divide by. The slope at 0 is 1 / eps: if gradients
            are float16, use 1e-4.

    Raises:
        TypeError: `fusion` is not a `Fusion`.
        ValueError: f has only one feature, so only its sign would be left; or `eps` is not above 0.

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
                f"PowerNormalized divides by the norm, so of the one feature of {type(fusion).__name__} only the sign "
                "would be left: give it more, such as out_features=16"
            )
        self.eps = check_positive("PowerNormalized", "eps", eps)

    @override
    def _declare(self, fusion: Fusion) -> None:
        self.symmetry = fusion.symmetry
        self.xnor = "never" if self.symmetry == "antisymmetric" else "generic"

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        fused: Tensor = self.fusion(u, v)
        wide = fused.to(torch.promote_types(fused.dtype, torch.float32))  # half precision overflows at small eps
        roots = wide * (wide.abs() + self.eps).rsqrt()
        return nn.functional.normalize(roots, dim=-1, eps=self.eps**0.5).to(fused.dtype)

    @override
    def extra_repr(self) -> str:
        return f"eps={self.eps}"


def _at_least_generic(fusion: Fusion, xnor: Xnor) -> Xnor:
    """Return the `xnor` of a fusion made symmetric. For example, |u − v| + 3 (u − v) can only learn then."""
    return "generic" if xnor == "never" and not fusion._balanced else xnor
