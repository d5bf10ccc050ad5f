"""A law that every fusion must satisfy, and the error for a violation."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pairfuse.fusions import Fusion
from pairfuse.testing.case import FusionCase


class LawError(AssertionError):
    """A fusion breaks a law. `counter_example` holds embeddings that show it."""

    def __init__(self, message: str, **counter_example: Any) -> None:
        self.message = message
        self.counter_example = {name: _readable(value) for name, value in counter_example.items()}
        lines = [f"    {name} = {shorten(value)}" for name, value in self.counter_example.items()]
        super().__init__("\n".join([message, *lines]))


def _always(case: FusionCase) -> str | None:
    return None


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        run: Raises `LawError` if the fusion breaks the law. It takes the case, and a parameter named `draw` if
            Hypothesis draws its examples. Its docstring states the law.
        why_not: Returns the reason why the law does not apply to a fusion, or None if it applies. It is called
            before anything is drawn and must be fast.
    """

    run: Callable[..., None]
    why_not: Callable[[FusionCase], str | None] = _always

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.run.__name__

    @property
    def statement(self) -> str:
        """The law in one sentence."""
        return inspect.getdoc(self.run) or ""

    @property
    def is_drawn(self) -> bool:
        """True if Hypothesis draws the examples."""
        return "draw" in inspect.signature(self.run).parameters


def require(holds: bool | Tensor, message: str, **counter_example: Any) -> None:
    """Raise `LawError` unless `holds` is true."""
    if not bool(holds):
        raise LawError(message, **counter_example)


def close(x: Tensor, y: Tensor, tolerance: float = 1e-9) -> bool:
    """True if two float64 tensors agree within `tolerance` times their largest value (or 1, if that is larger)."""
    largest = max(1.0, x.abs().amax().item(), y.abs().amax().item()) if x.numel() else 1.0
    return x.shape == y.shape and bool(((x - y).abs() <= tolerance * largest).all())


def fuse(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Call a fusion on copies of the embeddings. An exception counts as a broken law."""
    try:
        fused: Tensor = fusion(u.clone(), v.clone())
    except Exception as error:
        raise LawError(f"it raises {type(error).__name__}: {error}", u=u, v=v) from error
    return fused


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers from their own generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def shorten(value: Any) -> str:
    """Return the value as text of at most 200 characters."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _readable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _readable(value.detach().tolist())
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
