"""What helps on classes that training never saw? `python -m tests.benchmarks.unseen_digits`.

Trained on scikit-learn's digits 0 to 6, judged on held-back images of these and on 7, 8, 9. Prints a table of the area
under the ROC curve over all pairs: mean ± standard deviation over ten seeds. About a minute on two cores.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from statistics import mean, stdev
from typing import NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm import tqdm

import pairfuse as pf
from tests.benchmarks.digits import split_digits

SEEDS, PER_CLASS, CLASSES, WIDTH = range(10), 8, 16, 32


class UnitLength(nn.Module):
    """Embeddings `(B, D)` of length √D."""

    def forward(self, u: Tensor) -> Tensor:
        """Scale each row."""
        return nn.functional.normalize(u, dim=-1) * u.shape[-1] ** 0.5


def one_layer() -> nn.Module:
    """A linear map of the pixels."""
    return nn.Linear(64, WIDTH)


def two_layers() -> nn.Module:
    """A hidden layer of 64."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, WIDTH))


def convnet() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        nn.Linear(512, WIDTH),
    )


class Case(NamedTuple):
    """A row of the table: what is trained, and how."""

    name: str
    encoder: Callable[[], nn.Module]
    fusion: str
    head: str = "linear"
    unit_length: bool = False
    turned: bool = False
    shifted: bool = False
    steps: int = 300
    objective: str | None = None


CASES = [
    Case("two layers, product, cross-entropy", two_layers, "product", objective="bce"),
    Case("two layers, product", two_layers, "product"),
    Case("two layers, product, hidden layer in the head", two_layers, "product", "mlp"),
    Case("two layers, abs-diff", two_layers, "abs-diff"),
    Case("two layers, squared-diff", two_layers, "squared-diff"),
    Case("two layers, symmetric", two_layers, "symmetric"),
    Case("two layers, cosine", two_layers, "cosine"),
    Case("two layers, unit length, product", two_layers, "product", unit_length=True),
    Case("one layer, cosine", one_layer, "cosine"),
    Case("one layer, product", one_layer, "product"),
    Case("one layer, squared-diff", one_layer, "squared-diff"),
    Case("convnet, product", convnet, "product"),
    Case("convnet, cosine, cross-entropy", convnet, "cosine", objective="bce"),
    Case("convnet, cosine", convnet, "cosine"),
    Case("convnet, unit length, squared-diff", convnet, "squared-diff", unit_length=True),
    Case("convnet, unit length, product", convnet, "product", unit_length=True),
    Case("convnet, cosine, images shifted", convnet, "cosine", shifted=True),
    Case("convnet, cosine, turned and mirrored: 55 classes", convnet, "cosine", turned=True),
    Case("both", convnet, "cosine", turned=True, shifted=True),
    Case("both, 1,000 steps", convnet, "cosine", turned=True, shifted=True, steps=1000),
]


def turn(images: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """Every digit turned and mirrored in eight ways, each a class of its own: but no 6 upside down, which is a 9."""
    squares, all_images, all_digits = images.view(-1, 8, 8), [], []
    for quarters in range(4):
        for mirrored in (False, True):
            kept = digits != 6 if quarters == 2 and not mirrored else digits >= 0
            turned = torch.rot90(squares[kept], quarters, (1, 2))
            all_images.append((turned.flip(2) if mirrored else turned).reshape(-1, 64))
            all_digits.append(digits[kept] + 10 * (2 * quarters + mirrored))
    return torch.cat(all_images), torch.cat(all_digits)


def shift(images: Tensor) -> Tensor:
    """Each image moved by at most one pixel to each side."""
    padded = nn.functional.pad(images.view(-1, 8, 8), (1, 1, 1, 1))
    rows, columns = (torch.randint(3, (len(images), 1, 1)) for _ in range(2))
    image, eight = torch.arange(len(images)).view(-1, 1, 1), torch.arange(8)
    return padded[image, rows + eight.view(1, 8, 1), columns + eight].reshape(-1, 64)


def train(case: Case, images: Tensor, digits: Tensor) -> pf.SiameseComparator:
    """All pairs of batches with eight images of each of at most sixteen classes."""
    encoder = nn.Sequential(case.encoder(), UnitLength()) if case.unit_length else case.encoder()
    model = pf.SiameseComparator(encoder, case.fusion, case.head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_function = pf.losses.AllPairsLoss(model, objective=case.objective)
    classes = min(CLASSES, len(digits.unique()))
    batches = pf.data.IdentityBatchSampler(digits, identities=classes, items=PER_CLASS, seed=torch.initial_seed())
    for batch in islice(repeat(batches), case.steps):
        loss = loss_function(model.encode(shift(images[batch]) if case.shifted else images[batch]), digits[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def repeat(batches: pf.data.IdentityBatchSampler) -> Iterator[list[int]]:
    """The batches of all epochs."""
    for epoch in count():
        batches.set_epoch(epoch)
        yield from batches


def auc(scores: Tensor, digits: Tensor) -> float:
    """Over all pairs of different images."""
    i, j = torch.triu_indices(len(digits), len(digits), offset=1)
    return float(roc_auc_score(digits[i] == digits[j], scores[i, j]))


def judge(case: Case | None, seed: int) -> tuple[float, float]:
    """The areas for held-back images and for unseen digits; without a case, of the plain distance of the pixels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    (images, digits), unseen = split_digits("unseen", torch.Generator())
    held_back = torch.rand(len(digits)) < 0.3
    sets = [(images[held_back], digits[held_back]), unseen]
    images, digits = images[~held_back], digits[~held_back]
    if case is None:
        areas = [auc(-torch.cdist(x, x), y) for x, y in sets]
    else:
        model = train(case, *(turn(images, digits) if case.turned else (images, digits)))
        areas = [auc(model.score_matrix(x, x), y) for x, y in sets]
    return areas[0], areas[1]


def main() -> None:
    """Train them all, and print the table."""
    cases = {"nothing trained: the distance of the pixels": None} | {case.name: case for case in CASES}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {(name, seed): pool.submit(judge, case, seed) for name, case in cases.items() for seed in SEEDS}
        results = {run: future.result() for run, future in tqdm(futures.items())}
    print("| encoder, fusion | held-back images of 0 to 6 | unseen digits 7, 8, 9 |")
    print("|---|---|---|")
    for name in cases:
        columns = zip(*[results[name, seed] for seed in SEEDS], strict=True)
        print(f"| {name} | {' | '.join(f'{mean(areas):.3f} ± {stdev(areas):.3f}' for areas in columns)} |")


if __name__ == "__main__":
    main()
