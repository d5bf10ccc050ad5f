"""The cosine of the angle between the embeddings."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import check_positive
from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.separable import Separable, Terms

__all__ = ["Cosine"]


@register_fusion("cosine")
class Cosine(Separable):
    r"""Take the cosine of the angle between the embeddings: `uᵀv / (‖u‖ ‖v‖)`.

    Symmetric; width 1; values in [−1, 1], 0 where an embedding is 0. A linear layer on it can tell same from
    different iff the two embeddings point in different directions and neither is 0. It ignores lengths.

    Half precision is computed in float32. A norm below `eps` counts as `eps`, so gradients stay finite.

    Args:
        eps: The smallest norm, above 0, as in `torch.nn.CosineSimilarity`.

    References:
        Bromley, Guyon, LeCun, Säckinger and Shah, *Signature Verification using a "Siamese" Time Delay Neural
        Network*, NIPS 1993.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.fusions.Cosine(2)(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))
        tensor([0.9600])
    """

    symmetry, additive, xnor = "symmetric", False, "generic"
    feature_means = (1.0, 0.0)
    summed = True

    def __init__(self, in_features: int, *, in2_features: int | None = None, eps: float = 1e-8) -> None:
        super().__init__(in_features, in2_features=in2_features)
        self.out_features = 1
        self.eps = check_positive("Cosine", "eps", eps)

    @override
    def left(self, u: Tensor) -> Terms:
        wide = torch.promote_types(u.dtype, torch.float32)
        return (nn.functional.normalize(u.to(wide), dim=-1, eps=self.eps).to(u.dtype),)

    @override
    def right(self, v: Tensor) -> Terms:
        return self.left(v)

    @override
    def fuse(self, u: Tensor, v: Tensor) -> Tensor:
        wide = torch.promote_types(u.dtype, torch.float32)
        cosine = nn.functional.cosine_similarity(u.to(wide), v.to(wide), dim=-1, eps=self.eps)
        return cosine.to(u.dtype).unsqueeze(-1)
