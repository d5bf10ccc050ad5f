"""All pairs whose score reaches a threshold, found tile by tile."""

import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairfuse._checks import check_int, require_package
from pairfuse._progress import show_progress
from pairfuse.scoring.blocks import Scorer
from pairfuse.scoring.topk import check_scores

ROWS, COLUMNS = 512, 4096  # of a tile on a CPU: its scores stay in the cache
DEVICE_TILE = 16_384
SEGMENT = 64  # scores of a row whose largest one is looked at first
MAX_MATCHES = 10_000_000
LARGE, LARGE_SHARE = 10, 0.1  # of all items in one group: more than true matches would join


class Matches(NamedTuple):
    """Pairs whose score reaches a threshold, best first.

    Attributes:
        left: Positions of the left items `(n,)`.
        right: Positions of the right items `(n,)`.
        scores: Their scores `(n,)`, at least float32.
    """

    left: Tensor
    right: Tensor
    scores: Tensor

    def groups(self, items: int) -> Tensor:
        """Return the group of each item of a set that was matched with itself: its connected component.

        Two items that a chain of matches joins are in one group, though they may not match themselves. There is a
        warning if one group holds more than a tenth of all items: a few false matches can join many groups into one.

        Args:
            items: Number of items of the set, N.

        Returns:
            The number of each item's group `(N,)`, from 0 on; an item without a match is a group of its own. Use them
            as labels.

        Raises:
            ImportError: SciPy is not installed; it is in the extra `data`.
            ValueError: A match is of an item beyond that number.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "squared-diff", embedding_dim=1)
            >>> x = torch.tensor([[0.0], [0.1], [5.0], [0.2]])
            >>> model.matches(x, threshold=0.0).groups(4)
            tensor([0, 0, 1, 0])
        """
        items = check_int("groups", "items", items)
        if len(self.left) and max(int(self.left.max()), int(self.right.max())) >= items:
            raise ValueError(
                f"groups expects matches of a set of {items} items with itself, got a match of item "
                f"{max(int(self.left.max()), int(self.right.max()))}"
            )
        sparse: Any = require_package("scipy.sparse", "data")
        graph: Any = require_package("scipy.sparse.csgraph", "data")
        left, right = (x.numpy(force=True) for x in (self.left, self.right))
        edges = sparse.coo_array(([True] * len(left), (left, right)), shape=(items, items))
        groups = torch.from_numpy(graph.connected_components(edges, directed=False)[1]).long()
        largest = int(torch.bincount(groups).max())
        if largest > max(LARGE_SHARE * items, LARGE):
            warnings.warn(
                f"one group holds {largest:,} of {items:,} items, which a chain of matches joins: false matches may "
                "have joined several groups, so choose a higher threshold",
                stacklevel=2,
            )
        return groups

    def to_pandas(self) -> Any:
        """Return a `DataFrame` of pandas with the columns `left`, `right` and `score`."""
        return require_package("pandas", "tables").DataFrame(self._columns())

    def to_arrow(self) -> Any:
        """Return a `Table` of pyarrow with the columns `left`, `right` and `score`."""
        return require_package("pyarrow", "tables").table(self._columns())

    def _columns(self) -> dict[str, Any]:
        columns = {"left": self.left, "right": self.right, "score": self.scores}
        return {name: column.numpy(force=True) for name, column in columns.items()}


def find_matches(
    scorer: Scorer, threshold: float, *, itself: bool, halved: bool, max_matches: int, progress: bool = False
) -> Matches:
    """Return all pairs whose score is at least a threshold, best first; ties by position.

    Args:
        scorer: Scores two sets of embeddings.
        threshold: The threshold.
        itself: True if both are the same set: no item matches itself.
        halved: True if also the order within a pair does not matter: each pair comes once, left before right.
        max_matches: The largest number of matches.
        progress: If True, show a progress bar.

    Raises:
        ValueError: There are more matches, or a score is NaN or infinite.
    """
    found: list[Matches] = []
    count = 0
    for part, done in iterate_matches(scorer, threshold, itself=itself, halved=halved, progress=progress):
        count += len(part.left)
        found.append(part)
        if count > max_matches:
            raise _too_many(found, count, done, max_matches)
    if not found:
        nothing = torch.empty(0, dtype=torch.long, device=scorer.u.device)
        return Matches(nothing, nothing, scorer.u.new_empty(0, dtype=torch.promote_types(scorer.dtype, torch.float32)))
    left, right, scores = (torch.cat(column) for column in zip(*found, strict=True))
    order = torch.argsort(right)
    order = order[torch.argsort(left[order], stable=True)]
    order = order[torch.argsort(scores[order], stable=True, descending=True)]
    return Matches(left[order], right[order], scores[order])


def iterate_matches(
    scorer: Scorer, threshold: float, *, itself: bool, halved: bool, progress: bool = False
) -> Iterator[tuple[Matches, float]]:
    """Yield the matches tile by tile, with the share of all pairs that are done; see `find_matches`."""
    on_cpu = scorer.u.device.type == "cpu"
    rows, columns = scorer.block_size(*((ROWS, COLUMNS) if on_cpu else (DEVICE_TILE, DEVICE_TILE)))
    starts = range(0, len(scorer.u), rows)
    for i in show_progress(starts, "matching", len(starts)) if progress else starts:
        some = slice(i, min(i + rows, len(scorer.u)))
        for j in range(i if halved else 0, len(scorer.v), columns):
            others = slice(j, min(j + columns, len(scorer.v)))
            left, right, scores = _reaching(scorer.block(some, others), threshold)
            left, right = left + i, right + j
            if itself and others.start < some.stop and some.start < others.stop:
                wanted = left < right if halved else left != right
                left, right, scores = left[wanted], right[wanted], scores[wanted]
            if len(left):
                share = some.stop / len(scorer.u)
                yield Matches(left, right, scores), share * (2 - share) if halved else share


def _reaching(scores: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, columns and scores of the entries of a tile `(n, m, 1)` that reach a threshold."""
    if scores.shape[-1] != 1:
        raise ValueError(f"matches expects a head with one output, got {scores.shape[-1]}: use iter_score_blocks")
    scores = scores.squeeze(-1).to(torch.promote_types(scores.dtype, torch.float32))
    height, width = scores.shape
    segments = (
        scores.new_full((height, math.ceil(width / SEGMENT) * SEGMENT), -torch.inf) if width % SEGMENT else scores
    )
    if width % SEGMENT:
        segments[:, :width] = scores
    segments = segments.view(height, -1, SEGMENT)
    largest = segments.amax(-1)  # few segments have a match
    check_scores("matches", largest)
    row, segment = (largest >= threshold).nonzero(as_tuple=True)
    chosen = segments[row, segment]
    which, place = (chosen >= threshold).nonzero(as_tuple=True)
    return row[which], segment[which] * SEGMENT + place, chosen[which, place]


def _too_many(found: list[Matches], count: int, done: float, most: int) -> ValueError:
    """Return the error for too many matches, with a threshold that should leave few enough."""
    scores = torch.cat([part.scores for part in found]).float()
    kept = max(1, min(int(most * done), len(scores)))
    suggestion = float(scores.topk(kept).values[-1])
    return ValueError(
        f"matches expects at most max_matches={most:,}, got {count:,} after {100 * done:.3g} % of the pairs: pass a "
        f"higher threshold, such as {suggestion:.4g}, or a larger max_matches, or take them from iter_matches one part "
        "at a time"
    )
