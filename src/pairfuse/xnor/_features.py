"""The features of pairs as every margin and certificate sees them: in eval mode, in float64, scaled."""

import torch
from torch import Tensor
from torch.func import functional_call

from pairfuse._modes import eval_mode
from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion

RESOLUTION = 16 * torch.finfo(torch.float64).eps  # of the largest feature: below it a margin may be rounding only


def find_fusion(spec: FusionSpec, left: Tensor, right: Tensor) -> Fusion:
    """The fusion that is meant; what is named is built for these embeddings."""
    return as_fusion(spec, left.shape[-1] if left.ndim else 1, right.shape[-1] if right.ndim else 1)


def require_tied(function: str, fusion: Fusion) -> None:
    """Raise unless both sides have one width."""
    if fusion.in_features != fusion.in2_features:
        raise ValueError(
            f"{function} compares embeddings of one encoder, but {type(fusion).__name__} has "
            f"in_features={fusion.in_features} and in2_features={fusion.in2_features}"
        )


def fuse_wide(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Fuse in eval mode and in float64 with the fusion's own parameters, through which gradients still flow."""
    tensors = [*fusion.named_parameters(), *fusion.named_buffers()]
    state = {name: t.double() if t.is_floating_point() else t for name, t in tensors}
    with eval_mode(fusion):
        fused: Tensor = functional_call(fusion, state, (u.double(), v.double()))
    return fused


def positive_or_one(scale: Tensor) -> Tensor:
    """A scale to divide by: 1 where everything is 0."""
    return scale.where(scale > 0, 1.0)
