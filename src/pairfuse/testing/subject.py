"""What is tested: a fusion, or a way to make one for any width; and how a broken law is reported."""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias
from unittest import SkipTest

import torch
from torch import Tensor, nn

from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion

FusionOrFactory: TypeAlias = FusionSpec | type[Fusion] | Callable[[int], Fusion]


class LawError(AssertionError):
    """A fusion breaks a law; `counter_example` holds the embeddings that show it."""

    def __init__(self, message: str, **counter_example: Any) -> None:
        self.message = message
        self.counter_example = {name: _readable(value) for name, value in counter_example.items()}
        lines = [f"    {name} = {shorten(value)}" for name, value in self.counter_example.items()]
        super().__init__("\n".join([message, *lines]))


class DoesNotApply(SkipTest):
    """A law says nothing of this fusion."""


def shorten(value: Any) -> str:
    """A value as text, cut off where nobody would read on."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


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
        given: Any = fusion_or_factory
        if isinstance(given, nn.Module) and not isinstance(given, Fusion):
            raise TypeError(f"check_fusion expects a pairfuse.Fusion or what makes one, got {type(given).__name__}")
        if not (isinstance(given, (Fusion, str, list, tuple)) or callable(given)):
            raise TypeError(
                f"check_fusion expects a pairfuse.Fusion, or a class, name, list or function, got {given!r}"
            )
        self.given = given
        self.fixed = _built(given)

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

        Trained parameters are shaken, since at its start a bias of 0 or a gate of ½ would hide what it does; not if
        `fresh`.
        """
        given: Any = self.given
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.fixed is not None:
                fusion: Any = self.fixed
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
            made: Fusion = copy.deepcopy(fusion).double().eval()
            if not fresh:
                with torch.no_grad():
                    for p in made.parameters():
                        if p.requires_grad and p.is_floating_point():
                            noise = 0.3 * torch.randn_like(p)
                            p.copy_(torch.where(p == 0, noise, p * noise.exp()))
        return made

    def build_tied(self, width: int = 4, *, seed: int = 0, fresh: bool = False) -> Fusion:
        """Likewise, if both sides have one width."""
        fusion = self.build(width, seed=seed, fresh=fresh)
        if fusion.in_features != fusion.in2_features:
            raise DoesNotApply("the two sides differ in width")
        return fusion


def _built(given: Any) -> Fusion | None:
    """The fusion of given widths: one that is built, or a list that holds one."""
    if isinstance(given, Fusion):
        return given
    if isinstance(given, (list, tuple)):
        parts = [part for part in map(_built, given) if part is not None]
        if parts:
            return as_fusion(given, parts[0].in_features, parts[0].in2_features)
    return None


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
