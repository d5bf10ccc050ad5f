"""Which function a fusion computes, as an entry of its `state_dict`: squared-diff and product have the same tensors."""

import contextlib
import json
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._options import UnknownOptionError, as_json, parameters_of, read_option, written_class


def write_identity(fusion: nn.Module, cls: type[nn.Module] | None = None, **options: Any) -> Tensor:
    """Return the name of a fusion's class and its options, as the bytes of their JSON.

    Safetensors, and every way to copy a state, can hold a tensor.

    Args:
        fusion: The fusion. Its options are those arguments of its class that can be read back and that JSON can hold. A
            wrapped fusion has an entry of its own.
        cls: The class to name, if it is another one.
        **options: More options.
    """
    cls = written_class(fusion) if cls is None else cls
    found = {"fusion": cls.__name__}
    for name, parameter in parameters_of(cls).items():
        with contextlib.suppress(UnknownOptionError):
            found[name] = as_json(read_option(fusion, parameter))
    return torch.tensor(list(json.dumps({**found, **options}).encode()), dtype=torch.uint8, device="cpu")


def read_identity(state: Any) -> dict[str, Any] | None:
    """Return the identity that was written; None for anything else, such as the mean of several states."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.ndim != 1 or state.is_meta:
        return None
    try:
        found = json.loads(bytes(state.tolist()))
    except (ValueError, RuntimeError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("fusion"), str) else None


def other_identity(fusion: nn.Module, state: Any) -> str | None:
    """Return what a state is of and what it should be of, in words; None if it is of this fusion, or cannot be read.

    An option that one of the two lacks has its default: it is newer than the other.
    """
    found, due = read_identity(state), read_identity(fusion.get_extra_state())
    if found is None or due is None:
        return None
    defaults = {name: p.default for name, p in parameters_of(written_class(fusion)).items() if p.default is not p.empty}
    if {**defaults, **found} == {**defaults, **due}:
        return None
    return f"the state is of {_in_words(found)}, not of {_in_words(due)}"


def _in_words(found: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in found.items() if name != "fusion")
    return f"{found['fusion']}({options})"
