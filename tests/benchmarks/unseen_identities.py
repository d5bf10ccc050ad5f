"""Which loss is best on identities never seen? `python -m tests.benchmarks.unseen_identities`.

Five tasks, the same encoder, batches, steps and optimizer for all recipes, five seeds. Prints a table: the area under
the ROC curve (AUC) over all pairs of the test items, and the share of same pairs that are accepted where 1 % of the
different ones are (TAR). It takes hours on two cores: `--keep FILE` keeps results and goes on from there.

Needs the extra `benchmarks`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median, stdev

import torch
from torch import Tensor

import pairfuse as pf
from tests.benchmarks.unseen.recipes import OURS, PAIRS, PEERS, SENTENCE_PEERS, Build, Recipe, cosines
from tests.benchmarks.unseen.tasks import TASKS, Task

STEPS, FAR = 400, 0.01
ITEMS, ENCODER = "nothing trained, cosine of the items", "nothing trained, cosine of the encoder"
Scores = dict[str, dict[str, dict[int, tuple[float, float]]]]


def evaluate(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """AUC and TAR over all pairs of different items."""
    once = torch.ones_like(scores, dtype=torch.bool).triu(1)
    same = labels[:, None] == labels
    positive, negative = scores[once & same].sort().values, scores[once & ~same]
    below = torch.searchsorted(positive, negative).double() + torch.searchsorted(positive, negative, right=True)
    accepted = int(FAR * len(negative))
    threshold = negative.kthvalue(len(negative) - accepted).values
    return 1 - float(below.mean()) / 2 / len(positive), float((positive > threshold).double().mean())


def batches_of(task: Task, seed: int) -> Iterator[Tensor]:
    sampler = pf.data.IdentityBatchSampler(task.labels, identities=task.identities, items=task.items, seed=seed)
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from map(torch.tensor, sampler)
        epoch += 1


def trainer(build: Build, task: Task, seed: int) -> tuple[Recipe, Callable[[], None]]:
    """A recipe, and what makes a step of training."""
    batches, first = batches_of(task, seed), next(batches_of(task, seed))
    torch.manual_seed(seed)
    recipe = build(task, first)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=1e-3)

    def step() -> None:
        loss = recipe.loss(next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return recipe, step


def train(build: Build, task: Task, seed: int, steps: int) -> tuple[float, float]:
    """AUC and TAR on unseen identities."""
    recipe, step = trainer(build, task, seed)
    for _ in range(steps):
        step()
    with torch.no_grad():
        return evaluate(recipe.score(recipe.encoder(task.test)), task.test_labels)


def run(name: str, task: Task, seed: int) -> tuple[float, float]:
    """AUC and TAR of a row of the table."""
    if name == ITEMS:
        return evaluate(cosines(task.test.flatten(1)), task.test_labels)
    if name == ENCODER:
        return train(PEERS["triplet"], task, seed, 0)
    return train({**OURS, **PAIRS, **PEERS, **SENTENCE_PEERS}[name], task, seed, STEPS)


def rows_of(task: str) -> list[str]:
    """The rows, those that matter most first."""
    peers = [*PEERS, *(SENTENCE_PEERS if task == "sentences" else [])]
    return [ITEMS, ENCODER, *peers, *OURS, *PAIRS]


def cell(scores: Scores, peers: list[str], name: str, task: str) -> tuple[str, bool]:
    """The cell of a row, and whether it is at least as good as the best peer, but for one standard error."""
    found = scores.get(name, {}).get(task)
    if not found:
        return "", False
    results = {peer: scores[peer][task] for peer in peers if task in scores.get(peer, {})}
    best = max(results.values(), key=lambda result: mean(auc for auc, _ in result.values()))
    gaps = [found[seed][0] - other[0] for seed, other in best.items() if seed in found]
    error = stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    aucs, tars = zip(*found.values(), strict=True)
    as_good = mean(gaps) >= -error
    auc = f"{mean(aucs):.4f} ± {stdev(aucs) if len(aucs) > 1 else 0:.4f}"
    return f"{f'**{auc}**' if as_good else auc}, {mean(tars):.3f}", as_good


def table(scores: Scores) -> str:
    """All rows; an AUC is bold if it is as good as that of the best peer."""
    tasks = [task for task in TASKS if any(task in row for row in scores.values())]
    peers = [*PEERS, *SENTENCE_PEERS]
    lines = [f"| recipe | {' | '.join(tasks)} | as good as the best peer |", "|---|" + "---|" * (len(tasks) + 1)]
    for name in [ITEMS, ENCODER, *peers, *PAIRS, *OURS]:
        if name not in scores:
            continue
        cells = [cell(scores, peers, name, task) for task in tasks]
        count = f"{sum(good for _, good in cells)} of {sum(bool(text) for text, _ in cells)}"
        lines.append(f"| {name} | {' | '.join(text for text, _ in cells)} | {count} |")
    return "\n".join(lines)


def times(rounds: int = 60) -> str:
    """Milliseconds of a step of training on patches, the median, and beside the triplet loss."""
    task = TASKS["patches"](0)
    names = [*PEERS, *OURS, *PAIRS]
    steps = {name: trainer({**OURS, **PAIRS, **PEERS}[name], task, 0)[1] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: median(values[rounds // 5 :]) * 1000 for name, values in seconds.items()}
    lines = ["| recipe | a step on patches, ms | ratio to the triplet loss |", "|---|---|---|"]
    lines += [f"| {name} | {value:.2f} | {value / medians['triplet']:.2f} |" for name, value in medians.items()]
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="rows to run")
    parser.add_argument("--keep", type=Path, help="a file of results, to be continued")
    parser.add_argument("--times", action="store_true", help="print seconds of a step instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.times:
        print(times())
        return
    scores: Scores = {}
    if options.keep and options.keep.exists():
        for name, task, seed, result in map(json.loads, options.keep.read_text().splitlines()):
            scores.setdefault(name, {}).setdefault(task, {})[seed] = tuple(result)
    for seed in range(options.seeds):
        for name_of_task in options.tasks:
            task = TASKS[name_of_task](seed)
            for name in rows_of(name_of_task):
                found = scores.setdefault(name, {}).setdefault(name_of_task, {})
                if seed in found or (options.only is not None and name not in options.only):
                    continue
                found[seed] = run(name, task, seed)
                if options.keep:
                    with options.keep.open("a") as file:
                        file.write(json.dumps([name, name_of_task, seed, found[seed]]) + "\n")
    filled = {name: {t: found for t, found in row.items() if found} for name, row in scores.items()}
    print(table({name: row for name, row in filled.items() if row}))


if __name__ == "__main__":
    main()
