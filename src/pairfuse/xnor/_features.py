"""The features of pairs for margins and certificates: in eval mode, in float64, scaled."""

import torch
from torch import Tensor
from torch.func import functional_call

from pairfuse._checks import check_tensor
from pairfuse._modes import eval_mode
from pairfuse.fusions import Fusion
from pairfuse.fusions.registry import FusionSpec, as_fusion

RESOLUTION = 16 * torch.finfo(torch.float64).eps  # relative to the largest feature; a smaller margin may be rounding


def find_fusion(function: str, spec: FusionSpec, **embeddings: Tensor) -> Fusion:
    """Return the fusion for a spec. Names are built for the widths of the two embeddings, named by their arguments."""
    for argument, x in embeddings.items():
        check_tensor(function, argument, x)
    left, right = (x.shape[-1] if x.ndim else 1 for x in embeddings.values())
    return as_fusion(spec, left, right)


def require_tied(function: str, fusion: Fusion) -> None:
    """Raise unless both sides have the same width."""
    if fusion.in_features != fusion.in2_features:
        raise ValueError(
            f"{function} compares embeddings of one encoder, but {type(fusion).__name__} has "
            f"in_features={fusion.in_features} and in2_features={fusion.in2_features}"
        )


def fuse_wide(fusion: Fusion, u: Tensor, v: Tensor) -> Tensor:
    """Fuse in eval mode and in float64. Gradients still reach the fusion's own parameters."""
    tensors = [*fusion.named_parameters(), *fusion.named_buffers()]
    state = {name: t.double() if t.is_floating_point() else t for name, t in tensors}
    with eval_mode(fusion) as still:
        fused: Tensor = functional_call(still, state, (u.double(), v.double()))
    return fused


def positive_or_one(scale: Tensor) -> Tensor:
    """Return a scale to divide by, with 1 in place of 0."""
    return scale.where(scale > 0, 1.0)


def power_of_two(size: Tensor) -> Tensor:
    """Return the least power of two above a size, 1 for 0. Dividing by it is exact."""
    return torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent)
