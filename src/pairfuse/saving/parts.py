"""The parts of a model as plain data, and back: fusions, heads and encoders that pairfuse and torch define.

A description names a class of a fixed list, never the path of one, so that no file decides which code runs.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from pairfuse._checks import unknown_name
from pairfuse._layers import has_altered_output
from pairfuse._options import UnknownOptionError, as_json, parameters_of, read_option
from pairfuse.decisions.fields import check_fields, read_count, read_text
from pairfuse.encoders import vision_encoder
from pairfuse.fusions import Fusion, PowerNormalized, Stack, Symmetrized, list_fusions
from pairfuse.fusions.registry import fusion_class, registered_name

_COMBINED: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (Stack, Symmetrized, PowerNormalized)}
_LAYERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        *(nn.Identity, nn.Flatten, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
        *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
        *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardswish),
    )
}
_LARGEST = 2**24  # of an option of a fusion: no width is larger, and a stack fuses two embeddings of zeros
_BOOKKEEPING = {"training", "_is_full_backward_hook"}


def describe(part: nn.Module) -> dict[str, Any]:
    """Return a part as plain data. One that cannot be rebuilt from it exactly is described in words only."""
    try:
        dtype = _dtype_of(part)
        description = {**_describe(part), "dtype": dtype}
        rebuilt = build("it", description, device="meta")
    except Exception:  # of the constructor of a fusion of the user's own, or because no list has its class
        return describe_own(part)
    return description if _same(part, rebuilt) else describe_own(part)


def describe_own(part: nn.Module) -> dict[str, Any]:
    """Return what an error says about a part that has to be passed when the model is loaded."""
    return {"own": type(part).__name__, "parameters": sum(parameter.numel() for parameter in part.parameters())}


def build(owner: str, description: Any, *, device: torch.device | str) -> nn.Module:
    """Return the part that was described, with new parameters.

    Raises:
        ValueError: A field is unknown, or no part can be built from it; `owner` names it.
    """
    check_fields(owner, description, ["type", "options", "dtype"])
    dtype = description["dtype"]
    if dtype is not None and not (isinstance(dtype, str) and dtype in _DTYPES):
        raise ValueError(f"{owner}.dtype must be null or one of {', '.join(_DTYPES)}, got {dtype!r:.80}")
    planned = _ShapesOnly() if device == "meta" else nullcontext()
    try:
        with torch.device(device), planned, torch.random.fork_rng(devices=[]):
            part = _build(owner, {name: description[name] for name in ("type", "options")})
    except RecursionError:
        raise ValueError(f"{owner} is nested too deeply") from None
    return part if dtype is None else part.to(_DTYPES[dtype])


class _ShapesOnly(TorchFunctionMode):
    """Skip what initial values need and the meta device computes in Python: the first time, that takes 1.3 s."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "trunc_normal_", "triu"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_or_pass(
    owner: str, name: str, description: Any, given: nn.Module | None, *, device: torch.device | str
) -> nn.Module:
    """Return the part that was passed, or else the one that was described.

    Raises:
        TypeError: The part cannot be described, so it has to be passed.
        ValueError: No part can be built from the description.
    """
    if given is not None:
        return given
    if isinstance(description, dict) and "own" in description:
        check_fields(name, description, ["own", "parameters"])
        cls = read_text(f"{name}.own", description["own"])
        parameters = read_count(f"{name}.parameters", description["parameters"])
        raise TypeError(
            f"{owner} expects {name}=..., since a file cannot rebuild it: it was {cls:.80} with {parameters:,} "
            "parameters. Build one of the same architecture and pass it; it gets the saved weights"
        )
    return build(name, description, device=device)


_DTYPES = {str(t).removeprefix("torch."): t for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def _dtype_of(part: nn.Module) -> str | None:
    """Return the name of the one floating-point dtype of a part; None if it has no such tensors."""
    tensors = [*part.parameters(), *part.buffers()]
    names = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    if len(names) > 1:
        raise UnknownOptionError("several dtypes")
    return names.pop() if names else None


def _describe(part: Any) -> dict[str, Any]:
    if has_altered_output(part):
        raise UnknownOptionError("a hook or a patched method")
    cls = type(part)
    if isinstance(made := getattr(part, "made_by_vision_encoder", None), dict):
        return {"type": "vision_encoder", "options": dict(made)}
    if cls is nn.Sequential:
        return {"type": "Sequential", "options": {name: _describe(layer) for name, layer in part.named_children()}}
    name = registered_name(cls) or cls.__name__
    if cls not in (_COMBINED.get(name), _LAYERS.get(name)) and name not in list_fusions():
        raise UnknownOptionError(f"no list has {name}")
    options = {p.name: _as_data(read_option(part, p)) for p in parameters_of(cls).values()}
    return {"type": name, "options": options}


def _as_data(value: Any) -> Any:
    if isinstance(value, Fusion):
        return _describe(value)
    if isinstance(value, nn.ModuleList):
        return [_describe(part) for part in value]
    return as_json(value)


def _build(owner: str, description: Any) -> nn.Module:
    check_fields(owner, description, ["type", "options"])
    name, options = read_text(f"{owner}.type", description["type"]), description["options"]
    if not isinstance(options, dict):
        raise ValueError(f"{owner}.options must be a mapping, got {options!r:.80}")
    at = f"{owner}.options"
    if name == "Sequential":
        layers = nn.Sequential()
        for key, layer in options.items():
            _call(at, layers.add_module, name=key, module=_build(f"{at}.{key}", layer))
        return layers
    if name == "vision_encoder":
        check_fields(at, options, ["name", "embedding_dim"])
        return _call(at, vision_encoder, **options)  # type: ignore[no-any-return]
    cls = _COMBINED.get(name) or _LAYERS.get(name) or (fusion_class(name) if name in list_fusions() else None)
    if cls is None:
        raise _unknown_type(owner, name)
    check_fields(at, options, [], parameters_of(cls))
    values = {key: _from_data(f"{at}.{key}", value) for key, value in options.items()}
    if issubclass(cls, Fusion):
        for key, value in values.items():
            if isinstance(value, int) and value > _LARGEST:
                raise ValueError(f"{at}.{key} must be at most {_LARGEST}, got {value}")
    return _call(at, cls, **values)  # type: ignore[no-any-return]


def _from_data(owner: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _build(owner, value)
    if isinstance(value, list):
        return tuple(_from_data(f"{owner}[{i}]", x) for i, x in enumerate(value))
    return value


def _call(owner: str, make: Callable[..., Any], **options: Any) -> Any:
    """Call a constructor with options from a file: whatever it raises is an error of the file."""
    try:
        return make(**options)
    except ImportError:  # torchvision is not installed
        raise
    except Exception as error:
        raise ValueError(f"{owner} has a wrong value: {error}") from error


def _unknown_type(owner: str, name: str) -> ValueError:
    known = [*list_fusions(), *_COMBINED, *_LAYERS, "Sequential", "vision_encoder"]
    part = owner.partition(".")[0]
    return ValueError(
        f"{owner}: {unknown_name('type', name, known)}. If it is your own, register it, or pass {part}=..."
    )


def _same(part: nn.Module, rebuilt: nn.Module) -> bool:
    """True if a rebuilt part prints, holds and remembers the same as the one that was described."""
    return (
        repr(part) == repr(rebuilt)
        and _tensors(part) == _tensors(rebuilt)
        and len(list(part.parameters())) == len(list(rebuilt.parameters()))  # as many are shared
        and [_attributes(m) for m in part.modules()] == [_attributes(m) for m in rebuilt.modules()]
    )


def _tensors(part: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    state = {name: tensor for name, tensor in part.state_dict().items() if isinstance(tensor, Tensor)}
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def _attributes(module: nn.Module) -> dict[str, Any]:
    kinds = (bool, int, float, str, tuple, type(None))
    return {k: v for k, v in vars(module).items() if isinstance(v, kinds) and k not in _BOOKKEEPING}
