"""The fusion under test, or a function that makes one for any width."""

import copy
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import nn

from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion

FusionOrFactory: TypeAlias = FusionSpec | type[Fusion] | Callable[[int], Fusion]


class FusionCase:
    """A fusion under test. Every call of `build` returns a new copy."""

    def __init__(self, fusion_or_factory: FusionOrFactory) -> None:
        given: Any = fusion_or_factory
        if isinstance(given, nn.Module) and not isinstance(given, Fusion):
            raise TypeError(f"check_fusion expects a pairfuse.Fusion or a factory for one, got {type(given).__name__}")
        if not (isinstance(given, (Fusion, str, list, tuple)) or callable(given)):
            raise TypeError(
                f"check_fusion expects a pairfuse.Fusion, a class, a name, a list or a function, got {given!r}"
            )
        if isinstance(given, type) and issubclass(given, Fusion):
            _check_takes_width(given)
        self.given = given
        self.fixed = _built(given)

    @property
    def name(self) -> str:
        """The name in the report."""
        given: Any = self.given
        if isinstance(given, Fusion):
            return type(given).__name__
        if isinstance(given, (list, tuple)):
            return "[" + ", ".join(FusionCase(part).name for part in given) + "]"
        return given if isinstance(given, str) else getattr(given, "__name__", repr(given))

    @property
    def width_range(self) -> tuple[int, int]:
        """The smallest and the largest width D to try."""
        return (1, 4) if self.fixed is None else (self.fixed.in_features, self.fixed.in_features)

    @cached_property
    def example(self) -> Fusion:
        """A fusion whose facts can be read."""
        return self.build()

    def build(self, width: int = 4, *, in2_features: int | None = None, seed: int = 0, fresh: bool = False) -> Fusion:
        """Return a new fusion in float64 and eval mode, initialized from `seed`.

        Noise is added to its trained parameters, since an initial bias of 0 or a gate of ½ hides faults. With
        `fresh=True` they keep their initial values.
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
                raise TypeError(f"check_fusion expects a pairfuse.Fusion or a factory for one, got {fusion!r}")
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


def _check_takes_width(fusion: type[Fusion]) -> None:
    """Raise unless `fusion(width)` fits the signature."""
    signature, name = inspect.signature(fusion), fusion.__name__
    try:
        signature.bind(4)
    except TypeError as error:
        raise TypeError(
            f"check_fusion calls {name}(width), but the signature is {name}{signature} ({error}): pass a function of "
            f"the width, as in lambda width: {name}(width, …)"
        ) from None


def _built(given: Any) -> Fusion | None:
    """Return the fusion if it is given built, or the stack for a list that contains a built one; otherwise None."""
    if isinstance(given, Fusion):
        return given
    if isinstance(given, (list, tuple)):
        parts = [part for part in map(_built, given) if part is not None]
        if parts:
            return as_fusion(given, parts[0].in_features, parts[0].in2_features)
    return None
