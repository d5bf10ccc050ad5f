"""Stacks that are common in the literature."""

from typing import ClassVar

from pairfuse.fusions.additive import Concat, Diff
from pairfuse.fusions.base import Fusion
from pairfuse.fusions.city_block import AbsDiff
from pairfuse.fusions.elementwise import Product
from pairfuse.fusions.registry import register_fusion
from pairfuse.fusions.stack import Stack

__all__ = ["SBERT", "InferSent", "Mou", "SymmetricHeuristic"]


class _Preset(Stack):
    """A stack with fixed parts."""

    part_types: ClassVar[tuple[type[Fusion], ...]]

    def __init__(self, in_features: int, *, in2_features: int | None = None) -> None:
        super().__init__(part(in_features, in2_features=in2_features) for part in self.part_types)


@register_fusion("symmetric")
class SymmetricHeuristic(_Preset):
    """Product and absolute difference side by side: `[u ∘ v; |u − v|]`.

    The default of `SiameseComparator`. Symmetric; width 2D. A linear layer on it can always tell same from different.

    References:
        Tai, Socher and Manning, *Improved Semantic Representations From Tree-Structured Long Short-Term Memory
        Networks*, ACL 2015, arXiv:1503.00075.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.make_fusion("symmetric", 2)(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
        tensor([ 3., -8.,  2.,  6.])
    """

    part_types = (Product, AbsDiff)


@register_fusion("infersent")
class InferSent(_Preset):
    """Both embeddings, their absolute difference and their product: `[u; v; |u − v|; u ∘ v]`.

    Not symmetric; width 4D. A linear layer on it can always tell same from different.

    References:
        Conneau, Kiela, Schwenk, Barrault and Bordes, *Supervised Learning of Universal Sentence Representations from
        Natural Language Inference Data*, EMNLP 2017, arXiv:1705.02364.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.make_fusion("infersent", 1)(torch.tensor([2.0]), torch.tensor([3.0]))
        tensor([2., 3., 1., 6.])
    """

    part_types = (Concat, AbsDiff, Product)


@register_fusion("sbert")
class SBERT(_Preset):
    """Both embeddings and their absolute difference: `[u; v; |u − v|]`.

    Not symmetric; width 3D. A linear layer on it can always tell same from different.

    References:
        Reimers and Gurevych, *Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks*, EMNLP 2019,
        arXiv:1908.10084.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.make_fusion("sbert", 1)(torch.tensor([2.0]), torch.tensor([3.0]))
        tensor([2., 3., 1.])
    """

    part_types = (Concat, AbsDiff)


@register_fusion("mou")
class Mou(_Preset):
    """Both embeddings, their difference and their product: `[u; v; u − v; u ∘ v]`.

    Not symmetric; width 4D. A linear layer on the product, u and v can always tell same from different.

    References:
        Mou, Men, Li, Xu, Zhang, Yan and Jin, *Natural Language Inference by Tree-Based Convolution and Heuristic
        Matching*, ACL 2016, arXiv:1512.08422.

    Examples:
        >>> import torch, pairfuse as pf
        >>> pf.make_fusion("mou", 1)(torch.tensor([2.0]), torch.tensor([3.0]))
        tensor([ 2.,  3., -1.,  6.])
    """

    part_types = (Concat, Diff, Product)
