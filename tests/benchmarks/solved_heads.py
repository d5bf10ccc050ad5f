"""Solved heads on frozen features against other ways to use them: `python -m tests.benchmarks.solved_heads`.

The tasks of `unseen`, with the items themselves, or MiniLM's embeddings of sentences, as frozen features. No identity
of the test is in training. Prints the area under the ROC curve over all pairs of test items, the share of same pairs
that are accepted where 1 % of the different ones are, the calibration error of the probabilities if half of all pairs
are same, and seconds of one core. `/ 30` uses 30 training identities. An asterisk marks an area that is lower than that
of cosine, of the distance or of logistic regression on |u − v| by more than its standard error over identities.

`--speed` prints how long `solve_head` takes beside `u.T @ u` in float64, on one thread, and its memory. About a quarter
of an hour; needs the extra `benchmarks`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from pytorch_metric_learning import losses
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from torch import Tensor, nn

import pairfuse as pf
from pairfuse.solving.held_out import draw_different
from pairfuse.solving.sums import pairs_within
from tests.benchmarks.unseen.tasks import TASKS
from tests.benchmarks.unseen_identities import evaluate

FEW, PAIRS, JUDGED, NCA_ITEMS, STEPS = 30, 20_000, 1500, 1000, 300
SOLVED = ("product", "squared-diff", "abs-diff", "symmetric", "quadratic")


class Data(NamedTuple):
    """Frozen features for solving and for the test."""

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor

    def few(self, seed: int = 0) -> "Data":
        """Return the items of some training identities."""
        identities = self.labels.unique()
        order = torch.randperm(len(identities), generator=torch.Generator().manual_seed(seed))
        some = torch.isin(self.labels, identities[order[:FEW]])
        return self._replace(train=self.train[some], labels=self.labels[some])


Way = Callable[[Data], tuple[Tensor, pf.SiameseComparator | None]]


def cosine(data: Data) -> tuple[Tensor, None]:
    x = nn.functional.normalize(data.test)
    return x @ x.T, None


def distance(data: Data) -> tuple[Tensor, None]:
    return -torch.cdist(data.test, data.test), None


def logistic(fuse: Callable[[Tensor, Tensor], Tensor]) -> Way:
    """Logistic regression of scikit-learn on features of all same pairs, at most 20,000, and as many different ones."""

    def way(data: Data) -> tuple[Tensor, None]:
        generator = torch.Generator().manual_seed(0)
        order = data.labels.argsort(stable=True)
        sizes = data.labels.unique(return_counts=True)[1]
        i, j = pairs_within(sizes)
        some = torch.randperm(len(i), generator=generator)[:PAIRS]
        k, m = draw_different(sizes, len(some), generator)
        x = data.train[order]
        features = torch.cat([fuse(x[i[some]], x[j[some]]), fuse(x[k], x[m])])
        spread = features.std(0).clamp_min(1e-6)
        y = torch.tensor([1, 0]).repeat_interleave(len(some))
        fitted = LogisticRegression(max_iter=300).fit((features / spread).numpy(), y.numpy())
        weight = torch.tensor(fitted.coef_[0], dtype=torch.float32) / spread
        rows = [fuse(row[None], data.test) @ weight for row in data.test]
        return torch.stack(rows), None

    return way


def lda(data: Data) -> tuple[Tensor, None]:
    """Cosine of the discriminants of scikit-learn."""
    fitted = LinearDiscriminantAnalysis().fit(data.train.double().numpy(), data.labels.numpy())
    x = nn.functional.normalize(torch.tensor(fitted.transform(data.test.double().numpy())))
    return (x @ x.T).float(), None


def nca(data: Data) -> tuple[Tensor, None]:
    """Neighborhood components analysis of scikit-learn, on at most 1,000 items; its distance."""
    order = data.labels.argsort(stable=True)[:NCA_ITEMS]
    width = min(64, data.train.shape[1])
    model = NeighborhoodComponentsAnalysis(width, max_iter=20, random_state=0)
    model.fit(data.train[order].numpy(), data.labels[order].numpy())
    x = torch.tensor(model.transform(data.test.numpy())).float()
    return -torch.cdist(x, x), None


def metric_learning(data: Data) -> tuple[Tensor, None]:
    """A linear layer trained by pytorch-metric-learning, with its NT-Xent loss."""
    torch.manual_seed(0)
    layer, loss_function = nn.Linear(data.train.shape[1], 64), losses.NTXentLoss()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    sizes = data.labels.unique(return_counts=True)[1]
    sampler = pf.data.IdentityBatchSampler(data.labels, identities=min(32, len(sizes)), items=min(8, int(sizes.max())))
    step = epoch = 0
    while step < STEPS:
        sampler.set_epoch(epoch)
        epoch += 1
        for batch in map(torch.tensor, sampler):
            loss = loss_function(layer(data.train[batch]), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == STEPS:
                break
    with torch.no_grad():
        return cosine(data._replace(test=layer(data.test)))


def solved(fusion: str) -> Way:
    def way(data: Data) -> tuple[Tensor, pf.SiameseComparator]:
        model = pf.SiameseComparator(nn.Identity(), fusion, embedding_dim=data.train.shape[1])
        model.solve_head(data.train, data.labels)
        return model.score_matrix(data.test, data.test), model

    return way


def ranked(data: Data) -> tuple[Tensor, pf.SiameseComparator]:
    fusions = ["cosine", "squared-diff", "quadratic", "abs-diff"]
    model = pf.rank_fusions(data.train, data.labels, fusions=fusions).best
    return model.score_matrix(data.test, data.test), model


WAYS: dict[str, Way] = {
    "cosine": cosine,
    "distance": distance,
    "logistic, \\|u − v\\|": logistic(lambda u, v: (u - v).abs()),
    "logistic, u ∘ v": logistic(lambda u, v: u * v),
    "scikit-learn LDA": lda,
    "scikit-learn NCA": nca,
    "pytorch-metric-learning": metric_learning,
    **{f"`solve_head`, {fusion}": solved(fusion) for fusion in SOLVED},
    "`rank_fusions(...).best`": ranked,
}
REFERENCES = ("cosine", "distance", "logistic, \\|u − v\\|")


def row(way: Way, data: Data) -> tuple[float, float, float, float, float]:
    """AUC, its standard error over identities, TAR, calibration error and seconds."""
    begin = time.process_time()
    scores, model = way(data)
    seconds = time.process_time() - begin
    auc, tar = evaluate(scores, data.test_labels)
    identities, sizes = data.test_labels.unique(return_counts=True)
    few = torch.isin(data.test_labels, identities[: max(3, int((sizes.cumsum(0) <= JUDGED).sum()))])
    error = calibration = float("nan")
    if model is not None:
        report = pf.evaluate(model, data.test[few], data.test_labels[few], resamples=100)
        error = (report.auc.high - report.auc.low) / 2 / 1.96 * (int(few.sum()) / len(few)) ** 0.5
        calibration = report.calibration_error.value
    return auc, error, tar, calibration, seconds


def table(task: str) -> None:
    given = TASKS[task](0)
    data = Data(given.train.flatten(1), given.labels, given.test.flatten(1), given.test_labels)
    many = len(data.labels.unique()) > 100
    sets = {task: data, f"{task} / {FEW}": data.few()} if many else {task: data}
    for name, some in sets.items():
        print(f"\n**{name}**: {len(some.train):,} items of {len(some.labels.unique()):,} identities\n")
        print("| way | AUC | TAR at FAR 0.01 | calibration error | seconds |\n|---|---|---|---|---|", flush=True)
        found = {}
        for title, way in WAYS.items():
            try:
                found[title] = auc, error, tar, calibration, seconds = row(way, some)
            except ValueError as reason:
                print(f"| {title} | {str(reason)[:60]} | | | |", flush=True)
                continue
            worse = error == error and auc < max(found[x][0] for x in REFERENCES if x in found) - error
            calibrated = "" if calibration != calibration else f"{calibration:.3f}"
            print(f"| {title} | {auc:.4f}{'*' * worse} | {tar:.3f} | {calibrated} | {seconds:.1f} |", flush=True)


def memory(name: str) -> int:
    """MiB that Linux counts for this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


def reset_peak() -> int:
    """Forget the peak of the memory, and return what is used now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def speed() -> None:
    """Time on one thread against a matrix product, the median of five ratios, and the memory that is added at most."""
    torch.set_num_threads(1)
    print(
        "| items × width | items of an identity | `u.T @ u`, s | `solve_head`, s | ratio | more memory, MiB |\n"
        + "|---" * 6
        + "|"
    )
    for items, width, each in ((20_000, 256, 4), (100_000, 256, 4), (100_000, 256, 10), (100_000, 256, 100)):
        u, labels = torch.randn(items, width), torch.arange(items) // each
        times = []
        for _ in range(5):
            begin = time.process_time()
            wide = u.double()
            _ = wide.T @ wide
            middle = time.process_time()
            del wide
            model = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=width)
            before = reset_peak()
            model.solve_head(u, labels, batch_size=8192)
            peak = memory("VmHWM") - before
            times.append((middle - begin, time.process_time() - middle))
        product, solving = (median(x) for x in zip(*times, strict=True))
        ratio = median(b / a for a, b in times)
        print(f"| {items:,} × {width} | {each} | {product:.2f} | {solving:.2f} | {ratio:.1f} | {peak} |", flush=True)
    items, width = 20_000, 256
    labels = torch.arange(items) // 10
    u = torch.randn(items // 10, width)[labels] + 1.5 * torch.randn(items, width)
    begin = time.process_time()
    pf.rank_fusions(u, labels)
    print(f"\n`rank_fusions`, ten fusions, 20,000 × 256, 5 folds: {time.process_time() - begin:.0f} s on one core")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--speed", action="store_true", help="print seconds instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        speed()
        return
    for task in options.tasks:
        table(task)


if __name__ == "__main__":
    main()
