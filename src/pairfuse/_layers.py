"""Checks that a module computes exactly what its class documents, and the linear layer."""

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

FEW = 4  # a compiled kernel computes this many outputs as sums, without an array of the features
_METHODS = {"fuse", "forward", "left", "right"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


_FORWARDS = {cls: cls.forward for cls in vars(nn).values() if isinstance(cls, type) and issubclass(cls, nn.Module)}


def is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """True if a layer uses the `forward` of one of torch's classes. A subclass may override it, or `__call__`.

    Each `forward` is that from when pairfuse was imported: a class may have been patched since.
    """
    calls_forward = "forward" not in vars(layer) and type(layer).__call__ is nn.Module.__call__
    return calls_forward and any(isinstance(layer, kind) and type(layer).forward is _FORWARDS[kind] for kind in kinds)


def is_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """True if a layer computes what `nn.Linear` does, with a weight that ordinary operators can read."""
    return (
        isinstance(layer, nn.Linear)
        and not isinstance(layer, nn.LazyLinear)
        and is_plain(layer, nn.Linear)
        and not is_traceable_wrapper_subclass(layer.weight)  # quantized or sharded
    )


def is_altered(module: nn.Module) -> bool:
    """True if hooks or a patched method may change the output of a module. Then the module must be called."""
    return bool(_global_forward_hooks or _global_forward_pre_hooks) or any(
        any(getattr(m, hooks) for hooks in _HOOKS) or _METHODS & vars(m).keys() for m in module.modules()
    )


def has_altered_output(module: nn.Module) -> bool:
    """True if a forward hook or a patched method may change the output of a module.

    Hooks that run before a call do not count: those of lazy, pruned or normalized layers only prepare a weight.
    """
    return any(m._forward_hooks or _METHODS & vars(m).keys() for m in module.modules())


def check_rows_apart(owner: str, module: nn.Module) -> None:
    """Raise if a batch norm has no running statistics, since then an output depends on the other rows of its batch."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is None and not norm.training:
            raise ValueError(
                f"{owner} needs rows that do not depend on their batch, but a {type(norm).__name__} with "
                "track_running_stats=False normalizes each batch by itself: use running statistics, nn.LayerNorm or "
                "nn.GroupNorm"
            )


def check_initialized(owner: str, module: nn.Module) -> None:
    """Raise if a lazy layer has not run yet, so that its width is unknown."""
    for layer in module.modules():
        if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
            raise ValueError(f"{owner} expects layers that know their width, got {layer}: call the model once first")


def layers_of(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a head in order, with nested `nn.Sequential`s unrolled."""
    if isinstance(module, nn.Sequential) and is_plain(module, nn.Sequential):
        return [layer for part in module for layer in layers_of(part)]
    return [module]


def apply_linear(features: Tensor, weight: Tensor) -> Tensor:
    """Apply a linear layer without bias: `(..., F)` and `(K, F)` → `(..., K)`.

    While torch compiles, a few outputs are computed as sums, which it fuses with the computation of the features.
    """
    if torch.compiler.is_compiling() and len(weight) <= FEW:
        return torch.stack([(features * row).sum(-1) for row in weight], -1)
    return features @ weight.mT
