"""Quick start: do two images have the same color?

Every image is all black or all white. A ResNet embeds both images of a pair, a fusion joins the two embeddings, and
one linear layer answers "same" or "different". With concatenation it can never learn this, because a linear layer on
[u; v] computes g(u) + h(v). With the other fusions it learns the task in a few dozen steps.

    python examples/black_white.py
    python examples/black_white.py --fusion product --steps 50 --image-size 32
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import pairfuse as pf

FUSIONS = ["concat", "product", "abs-diff", "bilinear", "default"]
CONTROLS: list[pf.data.Target] = ["zero", "first-is-black", "second-is-black"]  # tasks that concat can learn


def build(fusion: str, seed: int) -> pf.SiameseComparator:
    """Build the model: encoder, fusion, head."""
    torch.manual_seed(seed)
    encoder = pf.encoders.vision_encoder("resnet18", embedding_dim=64)
    if fusion == "default":
        return pf.SiameseComparator(encoder)  # product and abs-diff side by side
    return pf.SiameseComparator(encoder, fusion, head="linear", allow_additive=True)  # concat would be refused


def train(model: nn.Module, pairs: pf.data.BlackWhitePairs, device: str, title: str) -> list[float]:
    """Train with plain PyTorch and binary cross-entropy on logits. Return the loss of every step."""
    model.to(device).train()
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    for x1, x2, y in tqdm(DataLoader(pairs, batch_size=16), desc=f"{title:>16}"):
        loss = loss_function(model(x1.to(device), x2.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def report(title: str, p: torch.Tensor, y: torch.Tensor) -> None:
    """Print one row: the four probabilities, the cross-entropy and the accuracy over the four pairs."""
    bce = nn.functional.binary_cross_entropy(p, y)
    accuracy = ((p > 0.5) == (y > 0.5)).float().mean()
    print(f"{title:>16}  " + "  ".join(f"{value:11.3f}" for value in p) + f"  {bce:6.3f}  {accuracy:8.0%}")


def draw(path: str, losses: dict[str, list[float]], tables: dict[str, torch.Tensor]) -> None:
    """Draw the loss curves with the floor of an additive model, and the truth tables as a heat map."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for title, curve in losses.items():
        left.plot(range(1, len(curve) + 1), curve, label=title, linewidth=2.5 if title == "concat" else 1.5)
    left.axhline(math.log(2), color="black", linestyle="--", linewidth=1, label="ln 2, a coin toss")
    left.set(xlabel="training step", ylabel="binary cross-entropy (train mode)", ylim=(0, 1.5))
    left.set_title("Learning to say “same” or “different”")
    left.legend()
    right.imshow(torch.stack(list(tables.values())).numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for row, table in enumerate(tables.values()):
        for column, value in enumerate(table.tolist()):
            right.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    right.set_xticks(range(4), ["black\nblack", "black\nwhite", "white\nblack", "white\nwhite"])
    right.set_yticks(range(len(tables)), list(tables))
    right.set_title("Probability of “same” after training (eval mode)")
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Train all models, print their truth tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fusion", nargs="+", choices=FUSIONS, default=FUSIONS, help="fusions to train (all)")
    parser.add_argument("--steps", type=int, default=100, help="training steps, of 16 pairs each (100)")
    parser.add_argument("--image-size", type=int, default=64, help="height and width in pixels (64)")
    parser.add_argument("--device", default="cpu", help="device to train on (cpu)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the pairs (0)")
    parser.add_argument("--plot", default="black_white.png", help="path of the picture (black_white.png)")
    options = parser.parse_args(arguments)
    Path(options.plot).resolve().parent.mkdir(parents=True, exist_ok=True)

    runs: list[tuple[str, pf.data.Target]] = [(fusion, "same") for fusion in options.fusion]
    if "concat" in options.fusion:
        runs += [("concat", control) for control in CONTROLS]
    losses, tables, targets = {}, {}, {}
    for fusion, target in runs:
        title = fusion if target == "same" else target
        pairs = pf.data.BlackWhitePairs(16 * options.steps, options.image_size, seed=options.seed, target=target)
        model = build(fusion, options.seed)
        losses[title] = train(model, pairs, options.device, title)
        x1, x2, targets[title] = pairs.truth_table()
        tables[title] = model.predict_proba(x1.to(options.device), x2.to(options.device)).cpu()

    print(f"\n{'p(same)':>16}  black/black  black/white  white/black  white/white     BCE  accuracy")
    report("right answer", targets[options.fusion[0]], targets[options.fusion[0]])
    for title in options.fusion:
        report(title, tables[title], targets[title])
    if "concat" in options.fusion:
        print("\nControls: questions about one image, or none, which concat can answer")
        for title in CONTROLS:
            report(title, tables[title], targets[title])

    same = {"right answer": targets[options.fusion[0]]} | {title: tables[title] for title in options.fusion}
    draw(options.plot, {title: losses[title] for title in options.fusion}, same)
    print(f"\nThe picture is in {options.plot}")


if __name__ == "__main__":
    main()
