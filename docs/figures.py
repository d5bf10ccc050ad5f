"""Draw the pictures of the XOR page: `python docs/figures.py`.

The quick start draws `docs/images/black_white.png`: `python examples/black_white.py --plot ...`.
"""

from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import pairfuse as pf

IMAGES = Path(__file__).parent / "images"
SAME, DIFFERENT = "#0067a5", "#b34700"  # those of docs/xor/xor.css


def draw_fused_pairs() -> None:
    """Draw the four pairs of two embeddings under three fusions, and the two segments whose distance is the margin.

    This is the interactive picture for readers without JavaScript: the same colors, shapes and initial positions.
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    one_black, one_white = torch.tensor([0.3]), torch.tensor([1.0])
    black, white = torch.tensor([1.0, 0.25]), torch.tensor([0.25, 1.0])
    panels = [
        ("concat: [u; v], for embeddings of width 1", pf.fusions.Concat(1), one_black, one_white, ("u", "v")),
        ("product: u ∘ v, width 2", pf.fusions.Product(2), black, white, ("u₁v₁", "u₂v₂")),
        ("abs-diff: |u − v|, width 2", pf.fusions.AbsDiff(2), black, white, ("|u₁ − v₁|", "|u₂ − v₂|")),
    ]
    for axis, (title, fusion, a, b, labels) in zip(axes, panels, strict=True):
        margin = pf.xnor_margin(fusion, a, b)
        draw_segment(axis, fusion(a, a), fusion(b, b), SAME, "o", "same", ["(a, a)", "(b, b)"])
        draw_segment(axis, fusion(a, b), fusion(b, a), DIFFERENT, "D", "different", ["(a, b)", "(b, a)"])
        axis.set_title(f"{title}\n" + (f"separable, margin {margin:.2f}" if margin else "not separable: they meet"))
        axis.set(xlabel=labels[0], ylabel=labels[1])
        axis.margins(0.45)
        axis.set_aspect("equal", adjustable="datalim")
    axes[0].legend(loc="lower center")
    save(figure, "fused_pairs.png")


def draw_segment(axis: plt.Axes, p: Tensor, q: Tensor, color: str, marker: str, label: str, names: list[str]) -> None:
    """Draw two points of one class, the segment between them, and their names. Equal points share one name."""
    (x1, y1), (x2, y2) = p.tolist(), q.tolist()
    axis.plot([x1, x2], [y1, y2], color=color, linewidth=2, marker=marker, markersize=9, label=label)
    if torch.allclose(p, q):
        names = [" ".join(names)]
    for (x, y), name in zip([(x1, y1), (x2, y2)], names, strict=False):
        above = y == max(y1, y2) and len(names) == 2  # below its lower end, or the segment would cross the name
        offset = (0, 10 if above else -22)
        axis.annotate(name, (x, y), offset, textcoords="offset points", ha="center", color=color, weight="bold")


def draw_logit_grid() -> None:
    """Draw two tables of four logits: a sum of a row effect and a column effect, and XNOR."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    additive = torch.tensor([[1.5], [-0.5]]) + torch.tensor([[0.5, -1.0]])
    xnor = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    panels = [
        (left, additive, "g(x1) + h(x2): both diagonals\nhave the same sum, here {:+.1f}"),
        (right, xnor, "same or different (XNOR): the sums of\nthe diagonals are {:+.1f} and {:+.1f}"),
    ]
    for axis, logits, title in panels:
        axis.imshow(logits.numpy(), cmap="RdBu", vmin=-5, vmax=5)
        for row in range(2):
            for column in range(2):
                axis.text(column, row, f"{logits[row, column]:+.1f}", ha="center", va="center", fontsize=16)
        main, other = logits.trace().item(), logits.fliplr().trace().item()
        axis.set_title(title.format(main, other))
        axis.set_xticks([0, 1], ["x2 black", "x2 white"])
        axis.set_yticks([0, 1], ["x1 black", "x1 white"])
    save(figure, "logit_grid.png")


def save(figure: Figure, name: str) -> None:
    """Save a PNG with 64 colors, a third of the size of a full-color PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=120)
    Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    draw_fused_pairs()
    draw_logit_grid()
