"""The logits of a grid of pairs as a picture."""

from typing import Any

import torch
from torch import Tensor

from pairfuse._checks import require_package
from pairfuse.diagnosis.anova import additive_part, shares


def draw_grid(grid: Tensor) -> Any:
    """A figure of three heat maps: the logits, their additive part, and the rest."""
    pyplot: Any = require_package("matplotlib.pyplot", "examples")
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.6), layout="constrained", sharex=True, sharey=True)
    sum_of_both = additive_part(grid)
    panels = [
        ("the logits", grid),
        ("the best sum g(x1) + h(x2)", sum_of_both),
        (f"what no sum gives: {shares(grid).interaction:.0%}", grid - sum_of_both),
    ]
    middle = grid[grid.isfinite()].mean() if grid.isfinite().any() else torch.tensor(0.0)
    for axis, (title, values) in zip(axes, panels, strict=True):
        centered = values if axis is axes[2] else values - middle
        limit = max((grid - middle).nan_to_num(0.0, 0.0, 0.0).abs().max().item(), 1e-12)
        image = axis.imshow(centered.numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
        axis.set_title(title)
        axis.set_xlabel("item as x2")
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel("item as x1")
    figure.colorbar(image, ax=axes, shrink=0.8, label=f"logit, less the mean {middle:.3g}")
    return figure
