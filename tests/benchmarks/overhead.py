"""What the library costs: its import beside torch's, its forward and backward beside plain PyTorch.

python -m tests.benchmarks.overhead
"""

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

import pairfuse as pf

LOSS = nn.functional.binary_cross_entropy_with_logits


def import_seconds(module: str) -> float:
    """Wall time of a fresh interpreter that imports one module."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def step_seconds(score: Callable[[Tensor, Tensor], Tensor], model: nn.Module, x1: Tensor, x2: Tensor) -> float:
    """Wall time of one forward and backward."""
    y = torch.ones(len(x1))
    model.zero_grad()
    start = time.perf_counter()
    LOSS(score(x1, x2), y).backward()
    return time.perf_counter() - start


def median_of(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure, taken in turn so that noise meets all alike; the first round warms up."""
    times = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [median(column) for column in zip(*times, strict=True)]


def main() -> None:
    """Print the two tables."""
    torch_only, ours = median_of(11, lambda: import_seconds("torch"), lambda: import_seconds("pairfuse"))
    print("| import | seconds | ratio |\n|---|---|---|")
    print(f"| torch | {torch_only:.2f} | 1 |\n| pairfuse | {ours:.2f} | {ours / torch_only:.3f} |\n")

    model = pf.SiameseComparator(pf.encoders.vision_encoder("resnet18", embedding_dim=64), "product")
    twin = copy.deepcopy(model)
    encoder, head = twin.encoder, twin.head
    x1, x2 = torch.rand(16, 3, 64, 64), torch.rand(16, 3, 64, 64)

    def joint(x1: Tensor, x2: Tensor) -> Tensor:
        u, v = encoder(torch.cat([x1, x2])).chunk(2)
        return head(u * v).squeeze(-1)

    def two_passes(x1: Tensor, x2: Tensor) -> Tensor:
        return head(encoder(x1) * encoder(x2)).squeeze(-1)

    by_hand, pairfuse, twice = median_of(
        41,
        lambda: step_seconds(joint, twin, x1, x2),
        lambda: step_seconds(model, model, x1, x2),
        lambda: step_seconds(two_passes, twin, x1, x2),
    )
    print("Forward and backward of a tied resnet18, product, 16 pairs of 64 px, two threads\n")
    print("| model | milliseconds | ratio |\n|---|---|---|")
    print(f"| by hand, one joint pass | {1e3 * by_hand:.0f} | 1 |")
    print(f"| pairfuse | {1e3 * pairfuse:.0f} | {pairfuse / by_hand:.3f} |")
    print(f"| by hand, two passes | {1e3 * twice:.0f} | {twice / by_hand:.3f} |")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
