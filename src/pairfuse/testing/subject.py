"""What is tested: a fusion, or a way to make one for any width; and how a broken law is reported."""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias
from unittest import SkipTest

import torch
from torch import Tensor

from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion

FusionOrFactory: TypeAlias = FusionSpec | type[Fusion] | Callable[[int], Fusion]


class LawError(AssertionError):
    """A fusion breaks a law; `counter_example` holds the embeddings that show it."""

    def __init__(self, message: str, **counter_example: Any) -> None:
        self.message = message
        self.counter_example = {name: _readable(value) for name, value in counter_example.items()}
        lines = [f"    {name} = {value}" for name, value in self.counter_example.items()]
        super().__init__("\n".join([message, *lines]))


class DoesNotApply(SkipTest):
    """A law says nothing of this fusion."""


def require(holds: bool | Tensor, message: str, **counter_example: Any) -> None:
    """Raise `LawError` unless it holds."""
    if not bool(holds):
        raise LawError(message, **counter_example)


def close(x: Tensor, y: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether two float64 tensors agree to this share of the largest value, or of 1."""
    largest = max(1.0, x.abs().amax().item(), y.abs().amax().item()) if x.numel() else 1.0
    return x.shape == y.shape and bool(((x - y).abs() <= tolerance * largest).all())


class Subject:
    """A fusion under test, made anew for each case."""

    def __init__(self, fusion_or_factory: FusionOrFactory) -> None:
        self.given = fusion_or_factory
        self.fixed = fusion_or_factory if isinstance(fusion_or_factory, Fusion) else None

    @property
    def name(self) -> str:
        """What the report calls it."""
        given: Any = self.given
        if isinstance(given, Fusion):
            return type(given).__name__
        if isinstance(given, (list, tuple)):
            return "[" + ", ".join(Subject(part).name for part in given) + "]"
        return given if isinstance(given, str) else getattr(given, "__name__", repr(given))

    @property
    def width_range(self) -> tuple[int, int]:
        """The least and the greatest width D to try."""
        return (1, 4) if self.fixed is None else (self.fixed.in_features, self.fixed.in_features)

    def build(self, width: int = 4, *, in2_features: int | None = None, seed: int = 0, fresh: bool = False) -> Fusion:
        """A new fusion in float64 and eval mode, drawn from a seed of its own.

        Parameters that are all 0 are drawn anew, since a bias of 0 would hide what it does; not if `fresh`.
        """
        given: Any = self.given
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.fixed is not None:
                fusion: Any = copy.deepcopy(self.fixed)
            elif isinstance(given, (str, list, tuple)):
                fusion = as_fusion(given, width, width if in2_features is None else in2_features)
            else:
                fusion = given(width) if in2_features is None else given(width, in2_features=in2_features)
            if not isinstance(fusion, Fusion):
                raise TypeError(f"check_fusion expects a pairfuse.Fusion or what makes one, got {fusion!r}")
            if self.fixed is None and fusion.in_features != width:
                raise ValueError(
                    f"{self.name} was asked for a fusion of in_features={width} and made one of "
                    f"{fusion.in_features}: to test a fusion of one width, pass the fusion itself"
                )
            made: Fusion = fusion.double().eval()
            if not fresh:
                with torch.no_grad():
                    for parameter in made.parameters():
                        if not parameter.any():
                            parameter.normal_()
        return made

    def build_tied(self, width: int = 4, *, seed: int = 0) -> Fusion:
        """Likewise, if both sides have one width."""
        fusion = self.build(width, seed=seed)
        if fusion.in_features != fusion.in2_features:
            raise DoesNotApply("the two sides differ in width")
        return fusion


def fuse(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Call a fusion on copies of the embeddings; an error counts as a broken law."""
    try:
        fused: Tensor = fusion(u.clone(), v.clone())
    except Exception as error:
        raise LawError(f"it raises {type(error).__name__}: {error}", u=u, v=v) from error
    return fused


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def _readable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _readable(value.detach().tolist())
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
