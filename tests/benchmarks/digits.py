"""Which fusion? Every registered fusion under both heads on real digits: `python -m tests.benchmarks.digits`.

scikit-learn's 1,797 digits of 8 × 8 pixels, "the same digit?", a small tied encoder, and two splits: random, where all
digits are seen in training, and unseen, where the encoder is trained on 0 to 6 and tested on pairs among 7, 8, 9.
Prints a table of the area under the ROC curve on test pairs: mean ± standard deviation over five seeds.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from statistics import mean, stdev

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from tqdm import tqdm

import pairfuse as pf

SEEDS, STEPS, PAIRS, WIDTH = range(5), 600, 256, 32
SPLITS = {"random": list(range(10)), "unseen": [7, 8, 9]}


def split_digits(split: str, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images `(n, 64)` in [0, 1] and their digits, for training and for the test."""
    data = load_digits()
    images, digits = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    if split == "random":
        test = torch.rand(len(digits), generator=generator) < 0.3
    else:
        test = torch.isin(digits, torch.tensor(SPLITS[split]))
    return (images[~test], digits[~test]), (images[test], digits[test])


def draw_pairs(digits: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of pairs of different images, half of them of the same digit, and the targets."""
    order = digits.argsort()  # the images of one digit stand together, from `start` on
    sizes = digits.bincount(minlength=10)
    place = torch.randint(len(digits), (count,), generator=generator)
    digit = digits[order[place]]
    start, size = (sizes.cumsum(0) - sizes)[digit], sizes[digit]
    same = torch.arange(count) % 2 == 0
    share = torch.rand(count, generator=generator)
    another = start + (place - start + 1 + (share * (size - 1)).long()) % size
    other = (start + size + (share * (len(digits) - size)).long()) % len(digits)
    return order[place], order[another.where(same, other)], same.float()


def auc(fusion: str, head: str, split: str, seed: int) -> float:
    """The area under the ROC curve on 4,000 test pairs, after training."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (images, digits), (test_images, test_digits) = split_digits(split, generator)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, WIDTH))
    model = pf.SiameseComparator(encoder, fusion, head, allow_additive=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        left, right, same = draw_pairs(digits, PAIRS, generator)
        loss = nn.functional.binary_cross_entropy_with_logits(model(images[left], images[right]), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    left, right, same = draw_pairs(test_digits, 4000, generator)
    return float(roc_auc_score(same, model.predict_proba(test_images[left], test_images[right])))


def main() -> None:
    """Train them all, and print the table."""
    heads = ("linear", "mlp")
    runs = list(product(pf.list_fusions(), SPLITS, heads, SEEDS))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {(f, s, h, seed): pool.submit(auc, f, h, s, seed) for f, s, h, seed in runs}
        results = {run: future.result() for run, future in tqdm(futures.items())}
    print("| fusion | random, linear | random, mlp | unseen, linear | unseen, mlp |")
    print("|---|---|---|---|---|")
    for fusion in pf.list_fusions():
        cells = []
        for split, head in product(SPLITS, heads):
            values = [results[fusion, split, head, seed] for seed in SEEDS]
            cells.append(f"{mean(values):.3f} ± {stdev(values):.3f}")
        print(f"| `{fusion}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
