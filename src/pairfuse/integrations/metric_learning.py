"""pytorch-metric-learning on the scores of a comparator. Needs the extra `metric-learning`."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from pairfuse._checks import require_package
from pairfuse.comparator import SiameseComparator

distances: Any = require_package("pytorch_metric_learning.distances", "metric-learning")

__all__ = ["ComparatorDistance"]


class ComparatorDistance(distances.BaseDistance):  # type: ignore[misc]
    """A comparator as a distance of pytorch-metric-learning: its losses then train the fusion and the head as well.

    The matrix that a loss gets is `model.score_embeddings(u, v)`, and the embeddings are used as they are. Scores are
    similarities (`is_inverted=True`): higher means "more the same". They are logits without bounds, so choose margins
    and thresholds of a loss in units of the logit, such as `ContrastiveLoss(pos_margin=2, neg_margin=-2)`.

    Losses and miners that compare pairs or triplets work: `ContrastiveLoss`, `TripletMarginLoss`,
    `MultiSimilarityLoss`, `NTXentLoss`, `SupConLoss`, `NCALoss`, `LiftedStructureLoss`,
    `GeneralizedLiftedStructureLoss`, `MarginLoss`, `NPairsLoss`, `IntraPairVarianceLoss`, `SelfSupervisedLoss` and
    `CrossBatchMemory` around them; and `TripletMarginMiner`, `PairMarginMiner`, `BatchHardMiner`,
    `BatchEasyHardMiner`, `MultiSimilarityMiner`, `UniformHistogramMiner` and `HDCMiner`. `ProxyAnchorLoss` and
    `ProxyNCALoss` work too: a proxy is an embedding.

    Losses that demand a distance of their own raise an `AssertionError` of that library: `AngularLoss`, `CircleLoss`,
    `DynamicSoftMarginLoss`, `FastAPLoss`, `InstanceLoss`, `PNPLoss`, `SignalToNoiseRatioContrastiveLoss`,
    `SmoothAPLoss`, `ThresholdConsistentMarginLoss`, `TupletMarginLoss`, `AngularMiner` and `DistanceWeightedMiner`.
    Losses that normalize embeddings or class weights do not work, since the scores are not a cosine:
    `NormalizedSoftmaxLoss`, `ArcFaceLoss`, `CosFaceLoss`, `SphereFaceLoss`, `SubCenterArcFaceLoss`,
    `LargeMarginSoftmaxLoss`, `SoftTripleLoss`, `P2SGradLoss`, `ManifoldLoss`, `HistogramLoss`, `RankedListLoss` and
    `VICRegLoss`.

    Args:
        model: The comparator. It is not a submodule: train `model.parameters()`.

    Raises:
        ImportError: pytorch-metric-learning is not installed.
        TypeError: The model is not a `SiameseComparator`.
        ValueError: The head has several outputs, a loss normalizes embeddings, or a model with two encoders gets no
            `ref_emb`.

    References:
        Musgrave, Belongie and Lim, *PyTorch Metric Learning*, 2020, arXiv:2008.09164.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from pytorch_metric_learning.losses import TripletMarginLoss
        >>> from pairfuse.integrations.metric_learning import ComparatorDistance
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "product")
        >>> loss = TripletMarginLoss(margin=1.0, distance=ComparatorDistance(model))
        >>> x, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> loss(model.encode(x), labels).backward()
        >>> model.head.weight.grad is not None
        True
    """

    model: SiameseComparator

    def __init__(self, model: SiameseComparator) -> None:
        if not isinstance(model, SiameseComparator):
            raise TypeError(f"ComparatorDistance expects model to be a SiameseComparator, got {type(model).__name__}")
        super().__init__(normalize_embeddings=False, is_inverted=True)
        self.__dict__["model"] = model  # not registered: its parameters are the model's alone

    @override
    def forward(self, query_emb: Tensor, ref_emb: Tensor | None = None) -> Tensor:
        """Return the scores `(N, M)` of left embeddings `(N, D)` with right ones `(M, D2)`, or with themselves."""
        if (ref_emb is None or ref_emb is query_emb) and not self.model.tied:
            raise ValueError(
                "ComparatorDistance expects ref_emb from the right encoder, because this model has two: "
                "loss(model.encode(x), labels, ref_emb=model.encode(x2, side='right'), ref_labels=labels2)"
            )
        return super().forward(query_emb, ref_emb)  # type: ignore[no-any-return]

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the scores of all pairs."""
        scores = self.model.score_embeddings(query_emb, ref_emb)
        if scores.ndim != 2:
            raise ValueError(f"ComparatorDistance expects a head with one output, got {scores.shape[-1]}")
        return scores

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the scores `(N,)` of embeddings pair by pair."""
        return self.model.head(self.model._fuse(query_emb, ref_emb)).squeeze(-1)  # type: ignore[no-any-return]

    def normalize(self, embeddings: Tensor, dim: int = 1, **kwargs: Any) -> Tensor:
        """Raise: this is for distances of normalized embeddings."""
        raise ValueError(
            "ComparatorDistance scores embeddings as they are, but this loss normalizes them: use a loss of pairs or "
            "triplets, or the loss with its own distance"
        )
