"""The start of a named head: the scale of the embeddings, and scale and bias of the logits, from a first batch."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import UNLABELED, check_finite, check_targets
from pairfuse._layers import is_linear, is_plain, layers_of
from pairfuse._modes import eval_mode
from pairfuse.fusions import Cosine, Fusion, Stack
from pairfuse.fusions.base import computes_as
from pairfuse.heads import START_GAP
from pairfuse.items.batches import Batch
from pairfuse.scoring import Scorer

Score: TypeAlias = Callable[[Fusion, nn.Module], Tensor]  # the scores of the pairs `(P,)` under a fusion and a head

UNLABELED_SPREAD = 4.0  # between the logits at the 5 % and the 95 % quantile, if there are no targets
WIDE_SPREAD = 3.0  # standard deviation of the logits for losses that compare them with each other
WIDE_COSINE = 14.0  # about 1 / 0.07, the temperature of NT-Xent
DIFFERENCE_SIZE = 0.35  # of embeddings around their mean, for fusions of differences
LEAST_SPREAD = 0.1  # standard deviation of the logits, if the scores do not separate the pairs or are inverted
RIDGE = 0.1  # added to the correlations of the parts of a stack
LARGEST_SEPARATION = 1e3  # of two classes without spread
ITEMS = 512  # of a batch whose pairs are scored, to bound the memory


def wants_start(model: Any) -> bool:
    """True if a comparator has a named head that has not started yet, and is not frozen.

    It reads a buffer, which waits for a GPU: ask once for a training, not in every step.
    """
    flag = getattr(model, "head_started", None)
    if flag is None or model.additive or bool(flag):
        return False
    last = last_layer(model.head)
    return last is not None and all(parameter.requires_grad for parameter in last.parameters())


def last_layer(head: nn.Module) -> nn.Linear | None:
    """Return the last layer of a head as `make_head` makes it; None if the head is of another kind."""
    layers = layers_of(head)
    last = layers[-1] if layers else None
    plain = all(is_linear(layer) or is_plain(layer, nn.ReLU) for layer in layers)
    if not plain or not isinstance(last, nn.Linear) or last.out_features != 1:
        return None
    own = {"weight", "bias"} <= {name for name, value in last._parameters.items() if value is not None}
    return last if own else None  # else another module computes the weight, as a parametrization does


@torch.no_grad()
def start_from_pairs(owner: str, model: Any, u: Tensor, v: Tensor, y: Tensor | None = None) -> bool:
    """Start the head from pairs of embeddings `(B, D)` and `(B, D2)`, as `encode` returns them.

    Args:
        owner: The caller, for errors.
        model: A comparator with a named head.
        u: Left embeddings.
        v: Right embeddings.
        y: Targets `(B,)`. Unless both classes are present, the scores alone are used.

    Returns:
        False if all scores are equal. The model is unchanged then.

    Raises:
        ValueError: An embedding or a score is NaN or infinite, or the embeddings are too small for their dtype.
    """
    scale = scale_of(owner, model, u, v)
    u, v = u * scale, v * scale
    return _start(owner, model, scale, lambda f, head: head(f(u, v)).squeeze(-1), None if y is None else y > 0.5)


@torch.no_grad()
def start_from_batch(
    owner: str,
    model: Any,
    u: Tensor,
    labels: Tensor,
    v: Tensor | None = None,
    right_labels: Tensor | None = None,
    *,
    calibrated: bool = True,
) -> bool:
    """Start the head from all pairs of a batch of labeled embeddings. A loss calls it with its first batch.

    Across processes pass the gathered embeddings and labels: then all processes start alike.

    Args:
        owner: The caller, for errors.
        model: A comparator with a named head.
        u: Embeddings `(N, D)`, as `encode` returns them.
        labels: Labels `(N,)`; -1 means unlabeled.
        v: Right embeddings `(M, D2)` of a two-sided batch. By default u, without the pairs of an item with itself.
        right_labels: Labels `(M,)` of v.
        calibrated: If True, the logits are about calibrated, as after `start_head`. If False, they are spread wide, as
            losses want it that compare scores with each other: a cosine is multiplied by 14, and the scores of any
            other fusion get a standard deviation of 3.

    Returns:
        False if there are no pairs or all scores are equal. The model is unchanged then.

    Raises:
        ValueError: As for `start_from_pairs`.
    """
    i = (labels != UNLABELED).nonzero().squeeze(1)[:ITEMS]
    u, labels = u.detach()[i], labels[i]
    pairs = ~torch.eye(len(i), dtype=torch.bool, device=u.device)
    if v is None or right_labels is None:
        v, right_labels = u, labels
    else:
        j = (right_labels != UNLABELED).nonzero().squeeze(1)[:ITEMS]
        v, right_labels = v.detach()[j], right_labels[j]
        pairs = torch.ones(len(i), len(j), dtype=torch.bool, device=u.device)
    if not pairs.any():
        return False
    scale = scale_of(owner, model, u, v)
    same = (labels[:, None] == right_labels)[pairs]
    u, v = u * scale, v * scale
    return _start(
        owner, model, scale, lambda f, head: Scorer(f, head, u, v).matrix().squeeze(-1)[pairs], same, calibrated
    )


def scale_of(owner: str, model: Any, u: Tensor, v: Tensor) -> Tensor:
    """Return the factor that gives embeddings the size that the fusion is made for, the same for both sides.

    The size is the root mean square of the coordinates. A fusion that sees differences only does not see an offset that
    all embeddings share, so it is taken around their mean.
    """
    check_finite(owner, embeddings=u)
    check_finite(owner, embeddings=v)
    like = model.embedding_scale
    u, v = u.double(), v.double()
    wanted = model.fusion._embedding_size
    if model.fusion.translation_invariant:
        middle = (u.mean(0) + v.mean(0)) / 2
        u, v, wanted = u - middle, v - middle, DIFFERENCE_SIZE
    size = ((u.square().mean() + v.square().mean()) / 2).sqrt()
    if size == 0:
        return torch.ones_like(like)  # all scores are equal, which is said later
    scale: Tensor = (wanted / size).to(like)
    if not bool(scale.isfinite()) or scale == 0:
        raise ValueError(
            f"{owner} expects embeddings whose size {like.dtype} can invert, got coordinates of about {size.item():.1e}"
        )
    return scale


def _start(owner: str, model: Any, scale: Tensor, score: Score, same: Tensor | None, calibrated: bool = True) -> bool:
    """Set the scale of the embeddings, and scale and bias of the last layer. Return False if all scores are equal."""
    same = None if same is None or same.all() or not same.any() else same
    last = last_layer(model.head)
    assert last is not None
    with eval_mode(model.fusion) as fusion:
        scores = score(fusion, model.head)
        check_finite(owner, scores=scores)
        if scores.max() - scores.min() <= 8 * torch.finfo(scores.dtype).eps * scores.abs().max():
            return False
        factors = torch.ones_like(last.weight[0], dtype=torch.float64)
        scores = scores.double()
        if same is not None and isinstance(fusion, Stack) and computes_as(fusion, Stack) and last is model.head:
            factors, scores = _weigh_parts(fusion, last, score, same)
    factor, middle = _factor_and_middle(scores, same)
    if not calibrated:
        bounded = isinstance(fusion, Cosine) and last is model.head
        factor = WIDE_COSINE / last.weight.abs().sum() if bounded else WIDE_SPREAD / scores.std()
    last.weight.copy_(last.weight * (factors * factor))
    last.bias.copy_((last.bias - middle) * factor)
    model.embedding_scale.copy_(scale)
    model.head_started.fill_(True)
    return True


def _weigh_parts(stack: Stack, last: nn.Linear, score: Score, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return a factor for each feature, the same within a part of a stack, and the scores with these factors.

    They are Fisher's linear discriminant of the scores of the parts, but above 0: signs are kept. Parts that add
    nothing become small, such as the random weights of [u; v].
    """
    widths = [part.out_features for part in stack.fusions]
    columns = []
    for part, weight in zip(stack.fusions, torch.split(last.weight, widths, 1), strict=True):
        layer = nn.Linear(part.out_features, 1, bias=False, device=weight.device, dtype=weight.dtype)
        layer.weight.copy_(weight)
        columns.append(score(part, layer).double())
    scores = torch.stack(columns, 1)  # (P, parts)
    positive, negative = scores[same], scores[~same]
    gaps = positive.mean(0) - negative.mean(0)
    within = [x - x.mean(0) for x in (positive, negative)]
    spreads = sum(x.square().mean(0) for x in within).div(2).sqrt()  # type: ignore[union-attr]
    unit = torch.where(spreads > 0, spreads, gaps.abs()).clamp_min(torch.finfo(scores.dtype).tiny)
    correlation = sum((x / unit).mT @ (x / unit) / len(x) for x in within) / 2 + RIDGE * torch.eye(len(widths)).to(unit)
    wanted = torch.linalg.solve(correlation, gaps / unit).clamp_min(LEAST_SPREAD)
    factors = wanted / unit
    repeats = torch.tensor(widths, device=factors.device)
    return factors.repeat_interleave(repeats), last.bias.double() + scores @ factors


def _factor_and_middle(scores: Tensor, same: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the factor of the scores, above 0, and the score that becomes the logit 0.

    For two normal classes d standard deviations apart, logits with a standard deviation of d are calibrated. So scores
    that do not separate the classes become small logits, and others are at most `START_GAP` apart.
    """
    if same is None:
        low, high = torch.quantile(scores, scores.new_tensor([0.05, 0.95]))
        if high == low:
            low, high = scores.min(), scores.max()
        return UNLABELED_SPREAD / (high - low), (low + high) / 2
    positive, negative = scores[same], scores[~same]
    gap = positive.mean() - negative.mean()
    spread = ((positive.var(correction=0) + negative.var(correction=0)) / 2).sqrt()
    spread = spread.clamp_min(gap.abs() / LARGEST_SEPARATION)
    separation = gap / spread
    wanted = separation.clamp_min(LEAST_SPREAD).clamp_max(START_GAP / separation.abs())
    return wanted / spread, (positive.mean() + negative.mean()) / 2


class StartableHead(nn.Module):
    """The part of a comparator that starts its head, if the head was made by name.

    Attributes:
        embedding_scale: The fusion gets the embeddings times this number `()`. None with a head of the user's own.
        head_started: True `()` after the start. None with a head of the user's own.
    """

    fusion: Fusion
    head: nn.Module
    embedding_scale: Tensor | None
    head_started: Tensor | None

    @property
    def additive(self) -> bool:
        """True if provably no logit can answer "same or different"."""
        raise NotImplementedError

    def _encode_pairs(self, x1: Batch, x2: Batch) -> tuple[Tensor, Tensor]:
        """Embed two batches, `(B, D)` and `(B, D2)`, in the dtype of fusion and head."""
        raise NotImplementedError

    def _count_pairs(self, x1: Batch, x2: Batch) -> int:
        raise NotImplementedError

    def _register_start(self, named: bool) -> None:
        """Register the buffers of the start; empty ones if the head was not made by name."""
        scale = next(self.head.parameters()).new_ones((), requires_grad=False) if named else None
        self.register_buffer("embedding_scale", scale)
        self.register_buffer("head_started", None if scale is None else torch.zeros_like(scale, dtype=torch.bool))

    def _fused_size(self, embeddings: Tensor) -> Tensor:
        """Return embeddings in the size in which they are fused."""
        return embeddings if self.embedding_scale is None else embeddings * self.embedding_scale

    def _fuse(self, u: Tensor, v: Tensor) -> Tensor:
        """Fuse pairs of embeddings, as `encode` returns them: `(B, D)` and `(B, D2)` → `(B, F)`."""
        return self.fusion(self._fused_size(u), self._fused_size(v))  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_head(self, x1: Batch, x2: Batch, y: Tensor | None = None) -> None:
        """Start a named head from one batch of pairs: call it once, before training.

        An optimizer moves a bias by about a learning rate per step. If the threshold between same and different is far
        from 0, the weights move in its place, and a good ranking can be lost. If the embeddings are far from unit
        size, the same steps are far too small or far too large. So this method sets three numbers from the batch:

        - `embedding_scale`, a buffer: the fusion gets the embeddings times this number, so that their coordinates
          have about unit size. For `"ntn"` it is D^(−¼), and for a fusion of differences, such as `"squared-diff"`,
          0.35 around their mean, which it does not see. The scale is fixed from then on. If all embeddings are
          multiplied by a constant, the logits and the training after the start stay the same.
        - The scale of the logits: all weights of the last layer are multiplied by one number above 0. With `y`, the
          logits are about calibrated, with the mean logits of same and different pairs at most 6 apart. Without `y`,
          the 5 % and 95 % quantiles of the logits are 4 apart.
        - The bias: with `y`, the logit is 0 half-way between the mean scores of same and of different pairs. Without
          `y`, it is 0 half-way between the two quantiles. This is only right if both kinds of pairs are frequent.

        The order of the scores stays as it is for a product, a distance, a cosine and all others for which the size of
        the embeddings does not matter. Biases, a tanh, and parts of different degree do make it matter: then the order
        becomes that of unit size. With `y`, a linear head on a stack gets one number for each part, so that parts that
        do not separate the pairs become small. Signs are kept everywhere: if different pairs score higher than same
        pairs, they still do. The logits are then small, so that training can turn them quickly.

        It runs the encoder in the current mode, so in train mode a batch norm counts the batch. A second call starts
        again from its batch; with the same batch it changes nothing beyond rounding. `state_dict` holds the start.
        With `DistributedDataParallel`, call it before you wrap the model: wrapping copies the start of the first
        process to all others.

        Args:
            x1: B left items, at least 2. 64 pairs or more are best.
            x2: B right items.
            y: Targets `(B,)`: 1 = same, 0 = different, with at least one of each.

        Raises:
            TypeError: The head is one of your own, or has been replaced: only named heads are started.
            ValueError: The model is additive, all scores are equal, an embedding is NaN or infinite, or y does not fit.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "product", embedding_dim=8)
            >>> x1 = 100 + torch.randn(64, 8)  # large embeddings, which all score high
            >>> y = torch.arange(64) % 2.0
            >>> x2 = torch.where(y[:, None] > 0, x1, 100 + torch.randn(64, 8))
            >>> model(x1, x2).min() > 1000
            tensor(True)
            >>> model.start_head(x1, x2, y)
            >>> abs(model(x1, x2).mean()) < 1
            tensor(True)
        """
        if self.head_started is None or last_layer(self.head) is None:
            raise TypeError(
                f"start_head expects a head that was built by name, such as head='linear', got {self.head}: initialize "
                "a head of your own yourself"
            )
        if self.additive:
            raise ValueError(
                f"start_head expects a model that can tell same from different, got {type(self.fusion).__name__} with "
                "an affine head, which is additive: train it without a start"
            )
        pairs = self._count_pairs(x1, x2)
        if pairs < 2:
            raise ValueError(f"start_head expects a batch of at least 2 pairs, got {pairs}")
        y = None if y is None else check_targets("start_head", y, pairs)
        u, v = self._encode_pairs(x1, x2)
        if not start_from_pairs("start_head", self, u, v, y):
            raise ValueError(
                f"start_head expects scores that differ, got {pairs} equal ones: all embeddings may be the same"
            )

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a state from before there was `start_head` as one that is not to be started."""
        has_head = any(name.startswith(f"{prefix}head.") for name in state_dict)  # else it is of an encoder alone
        if has_head and self.embedding_scale is not None and self.head_started is not None:
            state_dict.setdefault(f"{prefix}embedding_scale", torch.ones_like(self.embedding_scale))
            state_dict.setdefault(f"{prefix}head_started", torch.ones_like(self.head_started))
        super()._load_from_state_dict(state_dict, prefix, *args)
