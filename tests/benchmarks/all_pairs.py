"""All pairs through the learned head, beside the limit, what people write by hand, and other packages.

    pip install -e ".[benchmarks]"
    python -m tests.benchmarks.all_pairs
    python -m tests.benchmarks.all_pairs --device cuda
    python -m tests.benchmarks.all_pairs --draw docs/images/all_pairs.png

The sides of a row are measured in turn, and the table holds medians. On a CPU, rows that are one matrix product are
compared with that product by both libraries that torch brings: `@` calls MKL for float32, pairfuse calls oneDNN.
"""

import argparse
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import matplotlib.pyplot as plt
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.utils.inference import MatchFinder
from scipy.spatial.distance import cdist
from sentence_transformers import util
from sklearn.metrics import pairwise as sklearn_pairwise
from torch import Tensor, nn
from torchmetrics import functional as metrics

import pairfuse as pf
from pairfuse.scoring.products import _has_onednn, products_of_rows
from tests.benchmarks.overhead import median_of

ITEMS, WIDTH = 2048, 256
QUERIES, GALLERY, SEARCH_WIDTH, K = 1000, 200_000, 128, 10
HIDDEN = 64


class Row(NamedTuple):
    """Work of pairfuse, compared with work that does the same or a part of it."""

    what: str
    ours: Callable[[], Any]
    beside: str
    theirs: Callable[[], Any]
    rounds: int = 9
    by_onednn: Callable[[], Any] | None = None  # the same matrix product as `theirs`, by oneDNN


def build(fusion: Any, head: str = "linear", width: int = WIDTH, device: str = "cpu") -> pf.SiameseComparator:
    """A comparator of embeddings."""
    torch.manual_seed(0)
    model = pf.SiameseComparator(nn.Identity(), fusion, head, embedding_dim=width, allow_additive=True)
    return model.to(device).eval().requires_grad_(False)


def by_hand(model: pf.SiameseComparator, u: Tensor, v: Tensor) -> Tensor:
    """What people write: every pair beside every other, and the model as it is."""
    pairs = u[:, None].expand(-1, len(v), -1), v[None].expand(len(u), -1, -1)
    logits: Tensor = model.head(model.fusion(*pairs))
    return logits


def onednn(u: Tensor, v: Tensor) -> Callable[[], Any] | None:
    """The product `u @ v.T` by oneDNN, where this torch has it."""
    return (lambda: products_of_rows(u, v)) if u.device.type == "cpu" and _has_onednn() else None


class Encoded(torch.utils.data.DataLoader[Tensor]):
    """Embeddings that are there already, as one batch."""

    def __init__(self, x: Tensor) -> None:
        super().__init__([x], batch_size=None)


def matrix_rows(u: Tensor, v: Tensor) -> list[Row]:
    """The limits, and the same by hand."""
    device = u.device.type
    square, hidden = torch.randn(WIDTH, WIDTH).to(u), torch.randn(HIDDEN, 1, WIDTH).to(u)

    def row(fusion: Any, beside: str, theirs: Callable[[], Any], head: str = "linear", **options: Any) -> Row:
        model = build(fusion, head, device=device)
        rounds = options.pop("rounds", 9)
        by_onednn = onednn(u, v) if beside == "`u @ v.T`" else None
        name = " + ".join(fusion) if isinstance(fusion, list) else fusion
        kind = f"{name}, {'linear' if head == 'linear' else f'MLP({HIDDEN})'}{', compiled' if options else ''}"
        return Row(kind, lambda: model.score_embeddings(u, v, **options), beside, theirs, rounds, by_onednn)

    def hand(fusion: str, head: str = "linear") -> Callable[[], Any]:
        model = build(fusion, head, device=device)
        return lambda: by_hand(model, u, v)

    def products(times: int = HIDDEN) -> None:
        for weight in hidden[:times]:
            (u * weight) @ v.T

    def city_blocks_and_products() -> None:
        differences = torch.cat([build("abs-diff", device=device).head.weight] * HIDDEN)
        for i in range(0, len(u), 4):
            (u[i : i + 4, None] - v).abs_().flatten(0, 1) @ differences.T
        products()

    product, distance = (lambda: u @ v.T), (lambda: torch.cdist(u, v, p=1.0))
    abs_diff = build("abs-diff", device=device)
    return [
        row("product", "`u @ v.T`", product),
        row("bilinear", "`u @ W @ v.T`", lambda: u @ square @ v.T),
        *(row(name, "`u @ v.T`", product) for name in ("concat", "sum", "diff", "squared-diff", "cosine")),
        row("abs-diff", "one `torch.cdist(p=1)`", distance),
        row("abs-diff", "one `torch.cdist(p=1)`", distance, compile=True),
        row("symmetric", "abs-diff, linear", lambda: abs_diff.score_embeddings(u, v)),
        row(
            "symmetric",
            "abs-diff, linear, compiled",
            lambda: abs_diff.score_embeddings(u, v, compile=True),
            compile=True,
        ),
        row(["concat", "product"], "64 × `(u * w) @ v.T`", products, "mlp", rounds=5),
        row("symmetric", "64 × `(u * w) @ v.T`, and one for `abs(u − v)`", city_blocks_and_products, "mlp", rounds=5),
        row("product", "by hand", hand("product"), rounds=3),
        row("abs-diff", "by hand", hand("abs-diff"), rounds=3),
        row("concat", "by hand", hand("concat", "mlp"), "mlp", rounds=3),
        row("concat", "by hand", hand("concat", "mlp"), "mlp", rounds=3, compile=True),
        row("symmetric", "by hand", hand("symmetric", "mlp"), "mlp", rounds=3),
    ]


def peer_rows(u: Tensor, v: Tensor) -> list[Row]:
    """Other packages' scores of all pairs; theirs have no learned weights."""
    models = {name: build(name) for name in ("abs-diff", "squared-diff", "cosine", "product")}
    a, b = u.numpy(), v.numpy()
    finder = MatchFinder(distance=DotProductSimilarity(normalize_embeddings=False), threshold=50.0)

    def scores(name: str, **options: Any) -> Callable[[], Tensor]:
        return lambda: models[name].score_embeddings(u, v, **options)

    def matches() -> Tensor:
        return (models["product"].score_embeddings(u, v) > 50.0).nonzero()

    city, slow = "abs-diff, linear, compiled", {"rounds": 3}
    return [
        Row(
            city,
            scores("abs-diff", compile=True),
            "SciPy `cdist(…, 'cityblock')`",
            lambda: cdist(a, b, "cityblock"),
            **slow,
        ),
        Row(
            city,
            scores("abs-diff", compile=True),
            "scikit-learn `manhattan_distances`",
            lambda: sklearn_pairwise.manhattan_distances(a, b),
            **slow,
        ),
        Row(
            city,
            scores("abs-diff", compile=True),
            "torchmetrics `pairwise_manhattan_distance`",
            lambda: metrics.pairwise_manhattan_distance(u, v),
            **slow,
        ),
        Row(
            "squared-diff, linear",
            scores("squared-diff"),
            "scikit-learn `euclidean_distances(squared=True)`",
            lambda: sklearn_pairwise.euclidean_distances(a, b, squared=True),
        ),
        Row("cosine, linear", scores("cosine"), "sentence-transformers `cos_sim`", lambda: util.cos_sim(u, v)),
        Row(
            "cosine, linear",
            scores("cosine"),
            "torchmetrics `pairwise_cosine_similarity`",
            lambda: metrics.pairwise_cosine_similarity(u, v),
        ),
        Row(
            "product, linear: pairs above a threshold",
            matches,
            "pytorch-metric-learning `MatchFinder`",
            lambda: finder.get_matching_pairs(u, v),
        ),
    ]


def search_rows(device: str) -> list[Row]:
    """The best ten of a gallery for each query; raises if the ids differ."""
    torch.manual_seed(0)
    q, g = torch.randn(QUERIES, SEARCH_WIDTH, device=device), torch.randn(GALLERY, SEARCH_WIDTH, device=device)
    model = build("product", width=SEARCH_WIDTH, device=device)
    weighted = q * model.head.weight

    def ours() -> Tensor:
        return model.topk(Encoded(q), Encoded(g), K).indices

    def blocks() -> None:
        for start in range(0, GALLERY, 2048):
            weighted @ g[start : start + 2048].T

    what = f"top {K}, product, linear"
    rows = [
        Row(what, ours, "`q @ g.T` alone", lambda: weighted @ g.T, 9, onednn(weighted, g)),
        Row(what, ours, "`q @ g.T` alone, 2,048 columns at a time", blocks),
        Row(what, ours, "`(q @ g.T).topk(10)`", lambda: (weighted @ g.T).topk(K), 3),
    ]
    if device == "cpu":
        index = faiss.IndexFlatIP(SEARCH_WIDTH)
        index.add(g.numpy())
        found = torch.from_numpy(index.search(weighted.numpy(), K)[1])
        if not torch.equal(found, ours()):
            raise RuntimeError("faiss and topk give different ids")
        rows += [
            Row(what, ours, "faiss `IndexFlatIP`, the same ids", lambda: index.search(weighted.numpy(), K)),
            Row(
                what,
                ours,
                "sentence-transformers `semantic_search`",
                lambda: util.semantic_search(weighted, g, top_k=K, score_function=util.dot_score),
                3,
            ),
        ]
    return rows


def vendor() -> str:
    """The vendor of the processor, on which the faster library depends, or its architecture."""
    found = re.search(r"vendor_id\s*: (\S+)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    return found[1] if found else platform.machine()


def seconds(work: Callable[[], Any], device: str) -> float:
    """Wall time of one call."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def table(device: str) -> None:
    """Print one table."""
    torch.manual_seed(0)
    u, v = torch.randn(ITEMS, WIDTH, device=device), torch.randn(ITEMS, WIDTH, device=device)
    threads = f"{torch.get_num_threads()} threads ({vendor()})" if device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{ITEMS:,} × {ITEMS:,} pairs of width {WIDTH}; search: {QUERIES:,} queries, a gallery of {GALLERY:,}, width "
        f"{SEARCH_WIDTH}. float32, {threads}, torch {torch.__version__.partition('+')[0]}, faiss {faiss.__version__}.\n"
    )
    print("| pairfuse | ms | compared with | ms | times as long | by oneDNN, ms | times as long |")
    print("|---|---|---|---|---|---|---|")
    rows = [*matrix_rows(u, v), *(peer_rows(u, v) if device == "cpu" else []), *search_rows(device)]
    for row in rows:
        sides = [row.ours, row.theirs, *([row.by_onednn] if row.by_onednn else [])]
        ours, *others = median_of(row.rounds, *(lambda side=side: seconds(side, device) for side in sides))
        numbers = [text for other in others for text in (short(other * 1e3), short(other / ours))]
        cells = row.what, short(ours * 1e3), row.beside, *numbers, *[""] * (4 - len(numbers))
        print(f"| {' | '.join(cells)} |", flush=True)


def short(number: float) -> str:
    """About three digits."""
    return f"{number:,.{max(0, 3 - len(str(int(number))))}f}"


@torch.no_grad()
def draw(path: Path) -> None:
    """How the time grows with the number of items and with their width."""
    lines: dict[str, tuple[str, str, dict[str, bool]]] = {
        "product, linear": ("product", "linear", {}),
        "abs-diff, linear": ("abs-diff", "linear", {}),
        "abs-diff, linear, compiled": ("abs-diff", "linear", {"compile": True}),
        "concat, MLP(64)": ("concat", "mlp", {}),
        "concat, MLP(64), compiled": ("concat", "mlp", {"compile": True}),
        "symmetric, MLP(64)": ("symmetric", "mlp", {}),
    }
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    widths = [32, 64, 128, 256, 512]
    panels = [
        ("items on either side, N = M, at width 256", [8 * width for width in widths]),
        ("width D, at 2,048 items on either side", widths),
    ]
    for axis, (label, ticks) in zip(axes, panels, strict=True):
        sizes = [(tick, WIDTH) if axis is axes[0] else (ITEMS, tick) for tick in ticks]
        for name, (fusion, head, options) in lines.items():
            axis.loglog(ticks, [embedding_seconds(fusion, head, *size, **options) for size in sizes], "o-", label=name)
        held = [hand_seconds(*size) for size in sizes[:4]]  # the last does not fit into memory
        axis.loglog(ticks[:4], held, "kx--", label="concat, MLP(64), by hand")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds for all pairs")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def embedding_seconds(fusion: str, head: str, items: int, width: int, **options: bool) -> float:
    """Median time of the scores of all pairs."""
    model, u, v = build(fusion, head, width), torch.randn(items, width), torch.randn(items, width)
    return median_of(3, lambda: seconds(lambda: model.score_embeddings(u, v, **options), "cpu"))[0]


def hand_seconds(items: int, width: int) -> float:
    """The same for concat with an MLP, by hand."""
    model, u, v = build("concat", "mlp", width), torch.randn(items, width), torch.randn(items, width)
    return median_of(1, lambda: seconds(lambda: by_hand(model, u, v), "cpu"))[0]


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--draw", type=Path, help="draw how the time grows into this file instead")
    options = parser.parse_args(arguments)
    if options.draw:
        draw(options.draw)
    else:
        table(options.device)


if __name__ == "__main__":
    main()
