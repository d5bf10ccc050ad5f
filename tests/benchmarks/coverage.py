"""How often the intervals of `pf.evaluate` hold the truth: data sets drawn again and again from one population.

python -m tests.benchmarks.coverage [--runs N]
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import Generator, nn
from tqdm import tqdm

import pairfuse as pf

WIDTH = 16
ITEMS = 4  # of each identity
POPULATION = 4000  # identities, for the truth
SIZES = (30, 100)
FARS = (0.01, 0.1)
POPULATIONS = {  # fusion, noise, and how much identities differ in their noise
    "cosine": ("cosine", 0.8, 0.0),
    "cosine, some identities noisy": ("cosine", 0.6, 0.8),
    "distance": ("squared-diff", 0.8, 0.3),
}


def draw(identities, noise, differs, generator):
    """Draw the items and labels of a number of identities; neighbors are more alike than others."""
    labels = torch.arange(identities).repeat_interleave(ITEMS)
    centers = torch.randn(identities, WIDTH, generator=generator)
    scale = noise * (differs * torch.randn(identities, 1, generator=generator)).exp()
    return (centers[labels] + scale[labels] * torch.randn(len(labels), WIDTH, generator=generator)), labels


def figures(report, thresholds):
    """Return all estimates of a report whose truth is known, by name."""
    found = {"AUC": report.auc, "EER": report.eer}
    found |= {f"TAR at FAR {far:g}": report.tar[far] for far in FARS}
    for far, threshold in thresholds.items():
        rates = report.at(threshold)
        found |= {f"FAR, threshold for {far:g}": rates[0], f"TAR, threshold for {far:g}": rates[1]}
    return found


def count(name, identities, runs):
    """Return in which share of the runs each interval held the truth."""
    fusion, noise, differs = POPULATIONS[name]
    model = pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=WIDTH)
    generator = Generator().manual_seed(0)
    everyone = pf.evaluate(model, *draw(POPULATION, noise, differs, generator), far=(1e-3, *FARS), resamples=20)
    thresholds = everyone.thresholds
    truth = {name: estimate.value for name, estimate in figures(everyone, thresholds).items()}
    held, decided, kept = Counter(), 0, 0
    for seed in range(runs):
        generator = Generator().manual_seed(seed + 1)
        report = pf.evaluate(model, *draw(identities, noise, differs, generator), far=FARS, seed=seed)
        for key, estimate in figures(report, thresholds).items():
            held[key] += estimate.low <= truth[key] <= estimate.high
        decision = report.decide(far=0.01)
        held["decided FAR 0.01, upper end"] += everyone.at(decision.threshold)[0].value <= decision.far.high
        try:
            sure = report.decide(far=0.05, sure=True)
        except ValueError:  # too few identities for any threshold
            continue
        decided += 1
        kept += everyone.at(sure.threshold)[0].value <= 0.05
    shares = {key: count / runs for key, count in held.items()}
    return shares | {"surely decided FAR 0.05": kept / max(1, decided)}


def main():
    """Print a table: a row for each figure, a column for each population and number of identities."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options = parser.parse_args()
    columns = [(name, size) for name in POPULATIONS for size in options.sizes]
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(count, *column, options.runs) for column in columns]
        columns = {column: future.result() for column, future in zip(columns, tqdm(futures), strict=True)}
    print("| figure | " + " | ".join(f"{name}: {size}" for name, size in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for key in next(iter(columns.values())):
        print(f"| {key} | " + " | ".join(f"{100 * column[key]:.1f} %" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
