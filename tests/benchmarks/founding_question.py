"""The set-up of the question that pairfuse began with: two separate resnet18s at 128 × 128 pixels.

python -m tests.benchmarks.founding_question
"""

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import pairfuse as pf


def build(fusion: str) -> pf.SiameseComparator:
    """Two resnet18s with their 1,000 outputs, a fusion, one linear layer."""
    torch.manual_seed(0)
    left, right = (pf.encoders.vision_encoder("resnet18", embedding_dim=1000) for _ in range(2))
    return pf.SiameseComparator(left, fusion, right_encoder=right, allow_additive=True)


def run(fusion: str, recipe: str) -> str:
    """Train by one recipe and return a row of the table."""
    model = build(fusion).train()
    if recipe == "the question's":
        batch, epochs = 4, 8
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.01)
        name = "SGD 1e-3, momentum 0.01, MSE on a sigmoid"
    else:
        batch, epochs = 16, 10
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        name = "AdamW 1e-3, BCE on logits"
    pairs = pf.data.BlackWhitePairs(100, size=128)
    batches = DataLoader(pairs, batch_size=batch, shuffle=True, drop_last=True)
    steps = epochs * len(batches)
    for x1, x2, y in tqdm((b for _ in range(epochs) for b in batches), f"{fusion}, {recipe}", steps, leave=False):
        logits = model(x1, x2)
        if recipe == "the question's":
            loss = nn.functional.mse_loss(logits.sigmoid(), y)
        else:
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x1, x2, y = pairs.truth_table()
    p = model.predict_proba(x1, x2)
    table = " ".join(f"{value:.2f}" for value in p)
    mse, accuracy = (p - y).square().mean(), ((p > 0.5) == (y > 0.5)).float().mean()
    return f"| {fusion} | {name} | {steps} × {batch} | {table} | {mse:.3f} | {accuracy:.0%} |"


def main() -> None:
    """Print the table."""
    rows = [run(fusion, recipe) for recipe in ("the question's", "ours") for fusion in ("concat", "product")]
    print("Two untied resnet18s, 128 px, 1,000 features each, 100 pairs, seed 0. The truth table is in eval mode.\n")
    print("| fusion | optimiser and loss | steps × pairs | p(same) of bb, bw, wb, ww | MSE | accuracy |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
