"""Matrix products by the faster of torch's two libraries for a CPU."""

from functools import cache

import torch
from torch import Tensor

_SCHEMA = (
    "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y"
)


def products_of_rows(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of every left row with every right row: `left @ right.mT`, for two matrices.

    torch multiplies float32 matrices by MKL, which on AMD processors is half as fast as oneDNN. torch has oneDNN too,
    but only calls it for such matrices when it compiles. Here it is called unless gradients or a graph are needed,
    since the operator does not support these.
    """
    watched = (
        torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.overrides.has_torch_function((left, right))
    )
    if not watched and _has_onednn() and torch.backends.mkldnn.enabled and _fits(left) and _fits(right):
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")  # type: ignore[no-any-return]
    return left @ right.mT


def _fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


@cache
def _has_onednn() -> bool:
    """True if this torch has both MKL and oneDNN, and oneDNN's private operator has the signature that is used here."""
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    known = operator is not None and str(operator.default._schema) == _SCHEMA
    libraries = torch.backends.mkl, torch.backends.mkldnn
    return known and all(library.is_available() for library in libraries)
