"""Ways to train an encoder to compare pairs: pairfuse, pytorch-metric-learning and sentence-transformers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn
from torch.utils.data import DataLoader

import pairfuse as pf
from tests.benchmarks.unseen.tasks import WIDTH, Task

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterator[Tensor]


@dataclass
class Recipe:
    """What is trained: an encoder and further parameters; how one batch gives a loss, and how embeddings are scored."""

    encoder: nn.Module
    loss: Callable[[Tensor], Tensor]  # from the positions of a batch
    score: Callable[[Tensor], Tensor]  # from N embeddings to N × N scores
    others: list[nn.Parameter] = field(default_factory=list)

    def parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.others]


Build = Callable[[Task, Tensor], Recipe]
"""From a task and the positions of a first batch to a recipe, of which nothing is trained yet."""


def cosines(u: Tensor) -> Tensor:
    u = nn.functional.normalize(u)
    return u @ u.T


def comparator(task: Task, fusion: str, head: str = "linear") -> pf.SiameseComparator:
    return pf.SiameseComparator(task.encoder(), fusion, head, embedding_dim=WIDTH)


def head_of(model: pf.SiameseComparator) -> list[nn.Parameter]:
    return [*model.fusion.parameters(), *model.head.parameters()]


def all_pairs(fusion: str, head: str = "linear", **options: Any) -> Build:
    """All pairs of a batch through the fusion and the head."""

    def build(task: Task, first: Tensor) -> Recipe:
        model = comparator(task, fusion, head)
        loss = pf.losses.AllPairsLoss(model, **options)
        return Recipe(
            model.encoder,
            lambda batch: loss(model.encode(task.train[batch]), task.labels[batch]),
            lambda u: model.score_embeddings(u, u),
            head_of(model),
        )

    return build


def random_pairs(fusion: str) -> Build:
    """`LabelledPairs` and binary cross-entropy: as many items in a step as the other recipes encode."""

    def build(task: Task, first: Tensor) -> Recipe:
        model = comparator(task, fusion)
        pairs = pf.data.LabelledPairs(task.train, task.labels, length=10**9, seed=int(torch.randint(10**9, ())))
        loader = iter(DataLoader(pairs, batch_size=len(first) // 2, sampler=range(len(pairs))))

        def loss(_: Tensor) -> Tensor:
            x1, x2, y = next(loader)
            return nn.functional.binary_cross_entropy_with_logits(model(x1, x2), y.to(x1))

        return Recipe(model.encoder, loss, lambda u: model.score_embeddings(u, u), head_of(model))

    return build


def metric_learning(make: Callable[[int], nn.Module], miner: Callable[[], nn.Module] | None = None) -> Build:
    """A loss of pytorch-metric-learning, made for a number of identities; the embeddings are compared by cosine."""

    def build(task: Task, first: Tensor) -> Recipe:
        identities = task.labels.unique()
        loss_function, mine = make(len(identities)), miner() if miner else None

        def loss(batch: Tensor) -> Tensor:
            u, labels = encoder(task.train[batch]), torch.searchsorted(identities, task.labels[batch])
            return loss_function(u, labels, mine(u, labels) if mine else None)

        encoder = task.encoder()
        return Recipe(encoder, loss, cosines, list(loss_function.parameters()))

    return build


def ranking_loss(task: Task, first: Tensor) -> Recipe:
    """sentence-transformers' multiple negatives ranking loss, on two items of each identity."""
    from sentence_transformers import losses as sentence_losses  # it takes seconds

    loss_function, encoder = sentence_losses.MultipleNegativesRankingLoss(None), task.encoder()

    def loss(batch: Tensor) -> Tensor:
        batch = batch[task.labels[batch].argsort(stable=True)]  # two of each
        u = encoder(task.train[batch])
        return loss_function.compute_loss_from_embeddings([u[::2], u[1::2]], None)

    return Recipe(encoder, loss, cosines)


def semi_hard_sentences(task: Task, first: Tensor) -> Recipe:
    """sentence-transformers' triplet loss on semi-hard triplets of a batch."""
    from sentence_transformers import losses as sentence_losses

    loss_function, encoder = sentence_losses.BatchSemiHardTripletLoss(None), task.encoder()

    def loss(batch: Tensor) -> Tensor:
        return loss_function.batch_semi_hard_triplet_loss(task.labels[batch], encoder(task.train[batch]))

    return Recipe(encoder, loss, cosines)


OBJECTIVES: dict[str, dict[str, Any]] = {
    "neighbors": {"objective": "neighbors"},
    "softmax": {"objective": "softmax"},
    "margin": {"objective": "margin"},
    "margin, semi-hard": {"objective": "margin", "negatives": "semi-hard"},
    "bce": {"objective": "bce"},
}
FUSIONS = ("cosine", "symmetric", "product", "squared-diff")
OURS: dict[str, Build] = {
    **{f"{f}, {o}": all_pairs(f, **options) for f in FUSIONS for o, options in OBJECTIVES.items()},
    "symmetric, MLP head, softmax": all_pairs("symmetric", "mlp", objective="softmax"),
    "product, MLP head, softmax": all_pairs("product", "mlp", objective="softmax"),
}
PAIRS: dict[str, Build] = {f"random pairs, {f}, bce": random_pairs(f) for f in ("symmetric", "cosine")}
SEMI_HARD = lambda: miners.TripletMarginMiner(type_of_triplets="semihard")  # noqa: E731
PEERS: dict[str, Build] = {
    "triplet": metric_learning(lambda _: losses.TripletMarginLoss()),
    "triplet, semi-hard miner": metric_learning(lambda _: losses.TripletMarginLoss(), SEMI_HARD),
    "triplet, cosine, margin 0.2": metric_learning(
        lambda _: losses.TripletMarginLoss(0.2, distance=distances.CosineSimilarity())
    ),
    "NT-Xent": metric_learning(lambda _: losses.NTXentLoss()),
    "SupCon": metric_learning(lambda _: losses.SupConLoss()),
    "multi-similarity": metric_learning(lambda _: losses.MultiSimilarityLoss()),
    "multi-similarity, its miner": metric_learning(lambda _: losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner),
    "contrastive": metric_learning(lambda _: losses.ContrastiveLoss()),
    "ArcFace": metric_learning(lambda identities: losses.ArcFaceLoss(identities, WIDTH)),
}
SENTENCE_PEERS: dict[str, Build] = {
    "sentence-transformers, ranking": ranking_loss,
    "sentence-transformers, semi-hard triplets": semi_hard_sentences,
}
