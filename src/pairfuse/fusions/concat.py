"""Concatenation: the fusion that cannot answer "same or different" by itself."""

import torch
from torch import Tensor
from typing_extensions import override

from pairfuse.fusions.base import Fusion
from pairfuse.fusions.registry import register_fusion


@register_fusion("concat")
class Concat(Fusion):
    r"""Put the embeddings side by side: `[u; v]`.

    Not symmetric; width D + D2; values as they were. **Additive**: an affine head on it computes `g(u) + h(v)`,
    and no such sum can tell same from different (XNOR), whatever the encoder. `SiameseComparator` therefore
    refuses the two together. A head with a hidden layer can.

    Args:
        in_features: Width D of `u`.
        in2_features: Width D2 of `v`; D by default.

    Shape:
        - u: `(..., D)`
        - v: `(..., D2)`
        - Output: `(..., D + D2)`

    Raises:
        TypeError: The embeddings are not floating-point.
        ValueError: Their widths are not D and D2, or their leading dimensions differ.

    References:
        Minsky and Papert, *Perceptrons*, MIT Press, 1969, for what a sum of parts cannot compute.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Concat(2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 1., -2.,  3.,  4.])
    """

    symmetry, additive, xnor = "none", True, "never"
    two_widths = True

    def __init__(self, in_features: int, *, in2_features: int | None = None) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = self.in_features + self.in2_features

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v], dim=-1)
