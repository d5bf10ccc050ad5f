"""A sum over all pairs and its gradients, tile by tile: memory that does not grow with the number of pairs."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pairfuse._layers import depends_on_batch
from pairfuse.scoring.blocks import Scorer, without_autocast
from pairfuse.scoring.factors import Factors
from pairfuse.scoring.footprint import measure
from pairfuse.scoring.plan import Plan
from pairfuse.scoring.shares import Named, Part, Reduction, Share, Term, parts_of, single
from pairfuse.scoring.tile_sizes import TileSizes, TileSteps, bytes_of, tile_sizes


def reduce_all_pairs(
    fusion: nn.Module,
    head: nn.Module,
    u: Tensor,
    v: Tensor,
    reduction: Reduction,
    *,
    max_bytes: int,
    most: int,
) -> Share:
    """Add up the shares of all rows of a score matrix.

    If everything fits into `max_bytes`, this is an ordinary computation on the whole score matrix. Otherwise tiles of
    full rows are scored one after the other. Where gradients are wanted, those of a tile are computed at once, and
    what remains of it are sums in the shapes of the embeddings and weights.

    Args:
        fusion: The fusion.
        head: The head, with one output.
        u: Left embeddings `(N, D)`.
        v: Right embeddings `(M, D2)`.
        reduction: The shares of the rows.
        max_bytes: Memory for factors and scores, besides the gradients themselves.
        most: The number of rows to decide by whether everything fits: N, or the most that a process of a shared batch
            has, since all must decide alike.

    Returns:
        The sum, whose total has gradients.

    Raises:
        ValueError: The head has several outputs or depends on the whole batch, or the budget is too small.
    """
    scorer = Scorer(fusion, head, u, v, max_bytes=max_bytes)  # type: ignore[arg-type]
    with without_autocast(u.device):
        one_set = u is v
        u = u.to(scorer.compute_dtype)
        v = u if one_set else v.to(scorer.compute_dtype)
        if scorer.is_traced or len(u) == 0:
            return _whole(scorer, reduction)
        footprints = measure(
            scorer.plan, u[:0].detach(), v[:0].detach(), TileSteps(reduction.sampled, scorer.gradients)
        )
        if bytes_of(footprints[:2], most, len(v)) <= max_bytes:
            return _whole(scorer, reduction)
        reason = depends_on_batch(fusion, head)
        if reason is not None:
            raise ValueError(
                f"AllPairsLoss scores {len(u)} × {len(v)} pairs in tiles to stay within max_bytes={max_bytes}, and "
                f"tiles would change what {reason} computes: take it out of the fusion and head, call eval() on them, "
                f"or pass max_bytes={bytes_of(footprints[:2], most, len(v))} to score all pairs at once"
            )
        if scorer.compute_dtype == torch.float16:
            raise ValueError(
                "AllPairsLoss expects float32 or bfloat16 weights to score in tiles, got float16: the gradients "
                "of tiles would vanish. Train float32 weights under torch.autocast, or raise max_bytes"
            )
        sizes = tile_sizes(footprints, len(u), len(v), max_bytes, on_cpu=u.device.type == "cpu")
        parameters = [x for x in {*fusion.parameters(), *head.parameters()} if x.requires_grad]
        if reduction.looks:
            with torch.no_grad():
                _walk(scorer.plan, partial(_look, reduction), sizes, u, None if one_set else v, [])
            reduction.finish_look()
        walk = partial(_walk, scorer.plan, reduction.share, sizes)
        if scorer.gradients:
            total, terms = _Tiled.apply(walk, u, None if one_set else v, *parameters)
            return Share(total, terms)
        return walk(u, None if one_set else v, []).share


def _whole(scorer: Scorer, reduction: Reduction) -> Share:
    scores, rows = single(scorer.matrix()), slice(0, len(scorer.u))
    if reduction.looks:
        reduction.look(scores.detach(), rows)
        reduction.finish_look()
    return reduction.share(scores, rows)


def _look(reduction: Reduction, scores: Tensor, rows: slice) -> Share:
    reduction.look(scores, rows)
    return Share(scores.new_zeros(()))


class _Tiled(torch.autograd.Function):
    """The value of a walk and its gradients, which are computed in the forward pass already."""

    @staticmethod
    def forward(ctx: Any, walk: Any, u: Tensor, v: Tensor | None, *parameters: Tensor) -> Any:
        wanted = ctx.needs_input_grad[1:]
        with torch.enable_grad(), _without_hooks(parameters):
            sides = (x if x is None else x.detach().requires_grad_(w) for x, w in zip((u, v), wanted[:2], strict=True))
            result = walk(*sides, list(parameters))
        ctx.save_for_backward(*result.gradients)
        return tuple(result.share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        return None, *(None if x is None else x * gradient.to(x.dtype) for x in ctx.saved_tensors)


class _without_hooks:  # noqa: N801
    """Tensor hooks of parameters wait for the whole gradient, and do not see that of each tile."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.hooks: list[Any] = [x._backward_hooks for x in parameters if x._backward_hooks]

    def __enter__(self) -> None:
        self.kept = [dict(hooks) for hooks in self.hooks]
        for hooks in self.hooks:
            hooks.clear()

    def __exit__(self, *_: object) -> None:
        for hooks, kept in zip(self.hooks, self.kept, strict=True):
            hooks.update(kept)


class _Result(NamedTuple):
    """A sum without its graph, and the gradients of its total: of u, v and each parameter."""

    share: Share
    gradients: list[Tensor | None]


def _walk(
    plan: Plan, term: Term, sizes: TileSizes, u: Tensor, v: Tensor | None, parameters: Sequence[Tensor]
) -> _Result:
    """Score tile after tile, of u with itself if there is no v; gradients where u, v or the parameters want them."""
    wanted = torch.is_grad_enabled()
    tiles = _Tiles(plan, term, u, v, parameters if wanted else [])
    shares = iter(tiles.in_one_pass(sizes) if sizes.columns >= len(tiles.v.tensor) else tiles.in_two_passes(sizes))
    total, terms = next(shares)
    for share in shares:
        total += share.total  # in place: small tensors that stay between the tiles would fragment the memory
        if terms is not None and share.terms is not None:
            terms += share.terms
    of_v = None if v is None else tiles.v.gradient
    return _Result(Share(total, terms), [tiles.u.gradient, of_v, *(part.gradient for part in tiles.parameters)])


class _Tiles:
    """The tiles of one walk, and the gradients that they add up."""

    def __init__(self, plan: Plan, term: Term, u: Tensor, v: Tensor | None, parameters: Sequence[Tensor]) -> None:
        self.plan, self.term = plan, term
        self.u = Part(u, 0)
        self.v = self.u if v is None else Part(v, 0)
        self.parameters = [Part(parameter) for parameter in parameters]
        self.checked = False

    def in_one_pass(self, sizes: TileSizes) -> Iterator[Share]:
        """Score tiles of full rows; the factors of a block of rows and of all columns are computed once."""
        columns = slice(0, len(self.v.tensor))
        for block in _slices(len(self.u.tensor), sizes.block):
            u, v = self.u.cut(block), self.v.cut(columns)
            factors = self.plan.factors(u, v)
            parts = [parts_of(x) for x in factors]
            for rows in _slices(len(u), sizes.rows):
                inside = slice(block.start + rows.start, block.start + rows.stop)
                yield self._full_rows(parts, inside, rows, columns)
            done = [part for few in parts for part, _ in few.values() if part.gradient is not None]
            for part in done:
                if part.tensor.requires_grad:
                    self._add(part.tensor, part.gradient, [(self.u, block), (self.v, columns)], [u, v])
            self.checked = True

    def _full_rows(self, parts: "list[Named]", inside: slice, rows: slice, columns: slice) -> Share:
        """Score rows of a block, `inside` the whole set, and add up what their gradients are."""
        tile = [(self.u, inside), (self.v, columns)]
        tile += [(part, rows if is_left else columns) for few in parts for part, is_left in few.values()]
        leaves = [part.cut(where) for part, where in tile]
        cut = iter(leaves[2:])
        scores = self.plan(leaves[0], leaves[1], [Factors(**{name: next(cut) for name in few}) for few in parts])
        share = self.term(single(scores), inside)
        self._add(share.total, None, tile, leaves)
        return Share(share.total.detach(), share.terms)

    def in_two_passes(self, sizes: TileSizes) -> Iterator[Share]:
        """Score tiles of some rows and columns; again for the gradients, once those of the scores are known."""
        for rows in _slices(len(self.u.tensor), sizes.rows):
            yield self._some_columns(rows, _slices(len(self.v.tensor), sizes.columns))

    def _some_columns(self, rows: slice, columns: Sequence[slice]) -> Share:
        with torch.no_grad():
            scores = torch.cat([single(self._score(self.u.cut(rows), self.v.cut(j))) for j in columns], 1)
        scores.requires_grad_(torch.is_grad_enabled())
        share = self.term(scores, rows)
        if share.total.requires_grad:
            (seed,) = torch.autograd.grad(share.total, scores)
            for j in columns:
                leaves = [self.u.cut(rows), self.v.cut(j)]
                again = single(self._score(*leaves))
                self._add(again, seed[:, j], [(self.u, rows), (self.v, j)], leaves)
                self.checked = True
        return Share(share.total.detach(), share.terms)

    def _score(self, u: Tensor, v: Tensor) -> Tensor:
        return self.plan(u, v, self.plan.factors(u, v))  # type: ignore[no-any-return]

    def _add(
        self, output: Tensor, seed: Tensor | None, parts: Sequence[tuple[Part, slice]], leaves: Sequence[Tensor]
    ) -> None:
        """Add the gradients of an output to the slices of the parts that it was computed from, and the parameters."""
        if not output.requires_grad:
            return
        everywhere = slice(0, 0)
        targets = [(part, where, leaf) for (part, where), leaf in zip(parts, leaves, strict=True) if leaf.requires_grad]
        targets += [(part, everywhere, part.tensor) for part in self.parameters]
        if not self.checked:
            _check_known(output, [x for *_, x in targets])
        # The plan's own tensors, such as two linear layers merged into one, are in the graph of every tile.
        found = torch.autograd.grad(output, [x for *_, x in targets], seed, retain_graph=True, allow_unused=True)
        for (part, where, _), gradient in zip(targets, found, strict=True):
            part.add(where, gradient)


def _check_known(output: Tensor, known: Sequence[Tensor]) -> None:
    """Raise if an output depends on a tensor that would not get its gradient."""
    stops = {x.grad_fn for x in known if x.grad_fn is not None}
    leaves, seen, left = {id(x) for x in known}, set(), [output.grad_fn]
    while left:
        node: Any = left.pop()
        if node is None or node in seen or node in stops:
            continue
        seen.add(node)
        left += [before for before, _ in node.next_functions]
        if hasattr(node, "variable") and id(node.variable) not in leaves:
            raise ValueError(
                "AllPairsLoss scores in tiles; gradients then reach only the embeddings and the parameters of the "
                f"fusion and head, but these also depend on another tensor, of shape {tuple(node.variable.shape)}: "
                "register it as a parameter, detach it, or raise max_bytes"
            )


def _slices(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]
