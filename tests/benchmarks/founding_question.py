"""The set-up of the question that pairfuse began with: two separate resnet18s at 128 × 128 pixels, 100 pairs.

python -m tests.benchmarks.founding_question
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import pairfuse as pf


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    name: str
    optimizer: Callable[..., torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    batch: int
    epochs: int


THE_QUESTIONS = Recipe(
    "SGD 1e-3, momentum 0.01, MSE on a sigmoid",
    lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.01),
    lambda logits, y: nn.functional.mse_loss(logits.sigmoid(), y),
    batch=4,
    epochs=8,
)
OURS = Recipe(
    "AdamW 1e-3, BCE on logits",
    lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    nn.functional.binary_cross_entropy_with_logits,
    batch=16,
    epochs=20,
)


def build(fusion: str, seed: int) -> pf.SiameseComparator:
    """Two resnet18s with their 1,000 outputs, a fusion, one linear layer."""
    torch.manual_seed(seed)
    left, right = (pf.encoders.vision_encoder("resnet18", embedding_dim=1000) for _ in range(2))
    return pf.SiameseComparator(left, fusion, right_encoder=right, allow_additive=True)


def run(fusion: str, recipe: Recipe, seed: int) -> str:
    """Train and return a row of the table."""
    model = build(fusion, seed).train()
    optimizer = recipe.optimizer(model.parameters())
    pairs = pf.data.BlackWhitePairs(100, size=128)
    batches = DataLoader(pairs, batch_size=recipe.batch, shuffle=True, drop_last=True)
    truth = pairs.truth_table()
    step, fitted, right = 0, 1, 1  # the latter two: the step from which on the loss is small, the answers are right
    for _ in tqdm(range(recipe.epochs), f"{fusion}, {recipe.name}", leave=False):
        for x1, x2, y in batches:
            loss = recipe.loss(model(x1, x2), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            fitted = fitted if loss < 0.01 else step + 1
        p = model.predict_proba(truth.x1, truth.x2)  # in eval mode, once an epoch
        right = right if (p - truth.y).abs().max() < 0.1 else step + len(batches)
    table = " ".join(f"{value:.2f}" for value in p)
    accuracy = ((p > 0.5) == (truth.y > 0.5)).float().mean()
    fitted_from, right_from = (str(since) if since <= step else "never" for since in (fitted, right))
    trained = f"{recipe.name} | {seed} | {step} × {recipe.batch}"
    return f"| {fusion} | {trained} | {fitted_from} | {right_from} | {table} | {accuracy:.0%} |"


def main() -> None:
    """Print the table."""
    settings = [(fusion, THE_QUESTIONS, 0) for fusion in ("concat", "product")]
    settings += [(fusion, OURS, seed) for fusion in ("concat", "product") for seed in (0, 1, 2)]
    rows = [run(*setting) for setting in settings]
    columns = ["fusion", "optimizer and loss", "seed", "steps × pairs", "training loss < 0.01 from step"]
    columns += ["all four right from step", "p(same) of bb, bw, wb, ww at the end", "accuracy"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
