"""The contract of every fusion."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_embeddings, check_fused, check_int
from pairfuse._layers import apply_linear
from pairfuse.fusions.facts import Facts, Symmetry, Xnor, check_facts
from pairfuse.fusions.identity import other_identity, write_identity
from pairfuse.items.batches import expand_pairs

_COMPUTES = ("fuse", "forward", "__call__")
ABSTRACT: set[type] = {nn.Module}  # classes that leave it to their subclasses what is computed
_DESCRIBES = ("left", "right", "score_all", "translation_invariant", "_declare")


class Fusion(nn.Module):
    """Combine two embeddings into one vector of fused features: `(u, v)` → `fusion(u, v)`.

    A subclass declares `symmetry`, `additive` and `xnor`, defines `fuse`, and sets `out_features` if it differs from
    `in_features`. `SiameseComparator` relies on these facts, and `pairfuse.testing.check_fusion` tests them. A subclass
    that overrides `fuse` declares its own facts: those of the parent describe another function. If the
    fusion is a sum of products of functions of one side each, derive it from
    [`Separable`][pairfuse.fusions.Separable] instead, which also gives you fast scoring of all pairs.

    Attributes:
        symmetry: `"symmetric"`: `f(u, v) = f(v, u)`; `"antisymmetric"`: `f(u, v) = −f(v, u)`; or `"none"`.
        additive: True if `f(u, v) = g(u) + h(v)`. Then no logit of an affine head on it can answer "same or different".
        xnor: When one linear layer with bias can tell (a, a), (b, b) from (a, b), (b, a) for a ≠ b and some parameters
            of the fusion: `"never"`, `"generic"` (except where a and b are in a special position), or `"always"`.
        xnor_with_sum: The same if the linear layer also reads u + v, as in `[u, v, u ∘ v]`. Optional: by default the
            same as `xnor`.
        spans_sum: True if a linear layer on the features can compute u + v. Optional: False.
        feature_means: The mean of a feature over same pairs (u, u), and over different pairs (u, v) of independent
            standard normal embeddings. Heads are initialized from it. Optional: `(0.0, 0.0)` means not declared.
        translation_invariant: True if `f(u + c, v + c) = f(u, v)`. Then all pairs are scored relative to a point near
            the embeddings, for accuracy. Optional: False.
        two_widths: True if `u` and `v` may differ in width. Optional: False.
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`.
        out_features: Width F of the fused features.

    Args:
        in_features: Width D of the left embedding `u`, at least 1.
        in2_features: Width D2 of the right embedding `v`; by default D. Fusions without `two_widths` need D2 = D.

    Most fusions take these arguments. Those with parameters also take `device` and `dtype` for them.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`, with the same leading dimensions
        - Output: `(..., F)`, where F is `out_features`

    Raises:
        TypeError: A fact is not declared, or the embeddings are not floating-point.
        ValueError: A fact, a width or a shape is invalid.

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
    translation_invariant: bool = False
    two_widths: bool = False

    in_features: int
    in2_features: int
    out_features: int

    _embedding_size: float = 1.0  # root mean square of the coordinates for which the fusion's own weights are drawn
    _written: ClassVar[dict[str, Any]] = {}  # what the class computes, and what describes it, when it was made

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Forget inherited facts that were declared for another `fuse`, and record what describes this one."""
        super().__init_subclass__(**kwargs)
        computed = min(depth_in(cls, name) for name in _COMPUTES)
        for name, unknown in _UNKNOWN.items():
            declared = depth_in(cls, name)
            if computed < declared < len(cls.__mro__) and _computes(cls.__mro__[declared]):
                setattr(cls, name, unknown)
        described = [name for name in _DESCRIBES if depth_in(cls, name) <= computed]
        cls._written = {name: getattr(cls, name) for name in (*_COMPUTES, *described)}

    def __init__(self, in_features: int, *, in2_features: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        check_facts(self, built=False)
        in2_features = in_features if in2_features is None else in2_features
        in_features = check_int(name, "in_features", in_features)
        in2_features = check_int(name, "in2_features", in2_features)
        if in2_features != in_features and not self.two_widths:
            raise ValueError(
                f"{name} expects embeddings of one width, got in_features={in_features} and "
                f"in2_features={in2_features}: make them equal, or use a fusion for two widths, such as 'bilinear'"
            )
        self.in_features = in_features
        self.in2_features = in2_features
        self.out_features = in_features

    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        """Fuse embeddings of checked shapes: `(..., D)`, `(..., D2)` → `(..., F)`.

        It must accept any leading dimensions and treat every row alike.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fuse(self, u, v)")

    @override
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Check the shapes, then `fuse`."""
        check_embeddings(type(self).__name__, u, v, self.in_features, self.in2_features)
        fused = self.fuse(u, v)
        check_fused(type(self).__name__, fused, u.shape[:-1], self.out_features)
        return fused

    def score_all(self, u: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        """Apply a linear layer without bias to every pair: `(N, D)`, `(M, D2)` and `(K, F)` → `(N, M, K)`.

        By default it calls `fuse` on every pair. Override it if there is a faster kernel. Scorers call it block by
        block. They ignore it in a subclass that overrides `forward`, or `fuse` but not this method.
        """
        return apply_linear(self(*expand_pairs(u, v)), weight)  # of (N, M, F)

    @property
    def fast_path(self) -> bool:
        """True if one matrix product scores all pairs."""
        return False

    @property
    def _balanced(self) -> bool:
        """True if `f(a, a) + f(b, b) = f(a, b) + f(b, a)` for all a and b. Then no linear layer can learn XNOR.

        This holds for sums and for antisymmetric fusions.
        """
        return self.additive or self.symmetry == "antisymmetric"

    def facts(self) -> Facts:
        """Return all facts, the widths and the number of parameters.

        Raises:
            TypeError: The facts contradict each other.
        """
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
        """Return `feature_means` for each of the F features."""
        return [self.feature_means] * self.out_features

    def _require_one_width(self, option: str) -> None:
        """Raise unless both sides have the same width, which an option needs."""
        if self.in_features != self.in2_features:
            raise ValueError(
                f"{type(self).__name__} expects one width with {option}, "
                f"got in_features={self.in_features} and in2_features={self.in2_features}"
            )

    @override
    def get_extra_state(self) -> Any:
        """Return which function this is, for the `state_dict`: other fusions have tensors of the same shapes."""
        return write_identity(self)

    @override
    def set_extra_state(self, state: Any) -> None:
        """Do nothing: `load_state_dict` compares the functions, and a fusion stays what it is."""

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        key = f"{prefix}_extra_state"
        if type(self).set_extra_state is Fusion.set_extra_state:
            state_dict.setdefault(key, None)  # a state from before fusions wrote what they are
            if other := other_identity(self, state_dict[key]):
                errors: list[str] = args[-1]
                errors.append(f"{other}. If you mean it, delete {key!r} from the state first.")
        super()._load_from_state_dict(state_dict, prefix, *args)

    @override
    def extra_repr(self) -> str:
        in2 = f", in2_features={self.in2_features}" if self.in2_features != self.in_features else ""
        return f"in_features={self.in_features}{in2}, out_features={self.out_features}"


ABSTRACT.add(Fusion)
_FORWARD, _CALL = Fusion.forward, nn.Module.__call__
# The facts about what a fusion computes, with the values that stand for "not declared".
_UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(("symmetry", "additive", "xnor")),
    **{name: vars(Fusion)[name] for name in ("xnor_with_sum", "spans_sum", "feature_means", "translation_invariant")},
}


def knows_fuse(fusion: Fusion, *names: str) -> bool:
    """True if one of these methods or facts describes what a fusion computes.

    It does if it is defined at or below the class that defines `fuse`, if `forward` is that of `Fusion`, and if none of
    them was replaced since. A subclass or a mix-in that overrides only `fuse` inherits methods that describe another.
    """
    cls = type(fusion)
    own_forward = cls.forward is not _FORWARD or cls.__call__ is not nn.Module.__call__
    described = [name for name in names if name in cls._written]
    unchanged = all(_defined(cls, name) is cls._written[name] for name in (*_COMPUTES, *described))
    return unchanged and not own_forward and len(described) > 0


def computes_as(fusion: Fusion, cls: type[Fusion]) -> bool:
    """True if a fusion computes what the `fuse` in the code of a class does, not that of a subclass or a patch."""
    return all(_defined(type(fusion), name) is cls._written[name] for name in _COMPUTES)


def _defined(cls: type, name: str) -> Any:
    """Return what a class has under a name. torch.export patches `nn.Module.__call__`, which changes no result."""
    found = getattr(cls, name)
    return _CALL if torch.compiler.is_exporting() and found is nn.Module.__call__ else found


def _computes(cls: type) -> bool:
    """True if a class, or a parent that is not abstract, defines what it computes."""
    return any(name in vars(base) for base in cls.__mro__ if base not in ABSTRACT for name in _COMPUTES)


def depth_in(cls: type, name: str) -> int:
    """Return the position in the MRO of the class that defines a name, or a position after the last."""
    return next((i for i, base in enumerate(cls.__mro__) if name in vars(base)), len(cls.__mro__))
