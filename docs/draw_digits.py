"""Run the code of the digits tutorial and draw its picture: `python docs/draw_digits.py`."""

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

DOCS = Path(__file__).parent
SHOWN = 8  # queries
SAME, DIFFERENT = "tab:blue", "tab:orange"


def run_page(path: Path) -> dict[str, Any]:
    """Run the code blocks of a page and return their namespace."""
    namespace: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, namespace)
    return namespace


def draw(page: dict[str, Any], path: Path) -> None:
    """Draw queries with their results above, and the scores of all pairs below."""
    figure = plt.figure(figsize=(10, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.6, 1])
    draw_search(above, page)
    for axis, (name, part) in zip(
        below.subplots(1, 2), (("held back", page["held_back"]), ("unseen", page["unseen"])), strict=True
    ):
        same, different = page["pairs"](page["scores"][name], page["digits"][part])
        bins = torch.linspace(
            *torch.cat([same, different]).quantile(torch.tensor([0.001, 0.999]).double()), 50
        ).tolist()
        for scores, label, color in ((different, "different", DIFFERENT), (same, "same", SAME)):
            axis.hist(scores.numpy(), bins, density=True, alpha=0.6, color=color, label=label)
        auc = page["auc"](page["scores"][name], page["digits"][part])
        axis.set(
            title=f"{name}: digits {page['digits'][part].unique().tolist()}, AUC {auc:.2f}", xlabel="score", yticks=[]
        )
        axis.legend()
    figure.savefig(path, dpi=110)


def draw_search(figure: Any, page: dict[str, Any]) -> None:
    """Draw a column for each query: the query, and its five nearest images, in red if they show another digit."""
    queries, gallery, nearest = page["second"], page["first"], page["indices"]
    columns = torch.linspace(0, len(queries) - 1, SHOWN).long().tolist()
    axes = figure.subplots(1 + nearest.shape[1], SHOWN)
    for column, query in enumerate(columns):
        for row, image in enumerate([queries[query], *gallery[nearest[query]]]):
            axis, digit = axes[row, column], page["digits"][image].item()
            axis.imshow(page["images"][image].view(8, 8).numpy(), cmap="gray_r")
            wrong = digit != page["digits"][queries[query]].item()
            title = f"query: {digit}" if row == 0 else str(digit)
            axis.set_title(title, fontsize=8, color="tab:red" if wrong else "black", pad=2)
            axis.axis("off")


if __name__ == "__main__":
    draw(run_page(DOCS / "digits.md"), DOCS / "images" / "unseen_digits.png")
