"""The loss over all pairs of a batch."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from pairfuse._checks import UNLABELED, check_int, check_like, check_positive, check_tensor, unknown_name
from pairfuse._layers import check_rows_apart
from pairfuse._starting import start_from_batch, wants_start
from pairfuse.comparator import SiameseComparator
from pairfuse.fusions import Cosine
from pairfuse.items.tower import first_parameter
from pairfuse.losses.objectives import OBJECTIVES, Rows
from pairfuse.losses.pairs import Pairs, check_pairs, make_pairs
from pairfuse.losses.processes import agree, check_group, gather, sum_of_all, sum_with_averaged_gradients
from pairfuse.scoring.reduction import reduce_all_pairs
from pairfuse.scoring.shares import Share

Negatives = Literal["all", "semi-hard"]
MARGIN = 1.0
MAX_BYTES = 40 * 2**20


class AllPairsLoss(nn.Module):
    r"""A loss over all pairs of a batch of labeled items: B encoded items train on B² pairs.

    Every pair is scored through the fusion and the head, as `model.score_embeddings` does. Pairs of equal labels are
    positive, all others negative; an item is never paired with itself. With `s_ij` the score of items i and j, P(i) the
    positive partners of i and N(i) the negative ones, the objectives are:

    - `"neighbors"`: the mean, over all anchors i with a positive partner, of
      `−log(Σ_{p ∈ P(i)} e^s_ip / (Σ_{p ∈ P(i)} e^s_ip + N))`. N is the sum of `e^s` over all negative pairs of the
      batch, divided by the number of items on the left. One near positive partner is enough, as in neighborhood
      components analysis (Goldberger et al., 2004), and all anchors share one measure of the negative pairs.
    - `"softmax"`: the mean, over all positive pairs, of `−log(e^s_ip / (e^s_ip + Σ_{n ∈ N(i)} e^s_in))`: which partner
      of i is the positive one, beside all negative ones? This is InfoNCE (van den Oord et al., 2018) and NT-Xent (Chen
      et al., 2020) without a temperature, because the head has a learned scale.
    - `"margin"`: triplets `max(0, margin − s_ip + s_in)` of every anchor with all its positive and negative partners
      (Schroff et al., 2015). The mean is over the triplets that are above 0. With `negatives="semi-hard"`, only
      negatives with `s_ip − margin < s_in < s_ip` count.
    - `"bce"`: binary cross-entropy on the scores as logits. Half of the loss is the mean over all positive pairs, the
      other half the mean over all negative pairs.

    With the first batch that has gradients, the loss starts a head that was made by name, as `model.start_head` does:
    it scales the embeddings to unit size and centers the logits. For `"bce"` they are about calibrated. For the others
    they are spread wide: a cosine is multiplied by 14, other scores get a standard deviation of 3. A head that has
    started before, or is frozen, stays as it is. If you have trained the head without a start, keep it with
    `model.head_started.fill_(True)`. The start writes to the head, so call this loss before other losses of the same
    step, and once before you compile it.

    The scores stay logits of "the same", but only `"bce"` trains them as probabilities. After the others, choose a
    threshold on data.

    Memory does not grow with the number of pairs. If all pairs fit into `max_bytes`, the loss is an ordinary
    computation. Otherwise the pairs are scored tile by tile, and the gradients of each tile are computed at once, in
    the forward pass: the loss and its gradients are the same up to rounding. Then parts of the fusion or head whose
    results depend on the whole batch raise an error: batch norm and dropout in train mode, and backward hooks. Forward
    hooks are called once for each tile. Second derivatives do not exist tile by tile, and never for `"neighbors"`.

    The model is not a submodule of the loss: `loss.parameters()` is empty. Train `model.parameters()`.

    Args:
        model: The comparator; its head must have one output.
        objective: `"neighbors"`, `"softmax"`, `"margin"` or `"bce"`. By default `"neighbors"` for the fusion
            `"cosine"`, which was the best on the whole in a benchmark on unseen identities, and `"softmax"` for all
            others: their scores have no bounds, and a few large ones can outweigh all other negative pairs of a batch.
        margin: The margin of `"margin"`, in units of the score; by default 1.
        negatives: `"all"` or `"semi-hard"`, for `"margin"`; by default all.
        max_bytes: Memory for scores and what they are computed from, besides the embeddings and all gradients.
        distributed: If True, the batch is the items of all processes of `torch.distributed`. Each process passes its
            own ones, as many as it has, and scores them with those of all others. The loss is that of one process with
            all items. Gradients are multiplied by the number of processes, because `DistributedDataParallel` averages
            them: average those of parameters that it does not wrap. Errors in one process end the call in all.

    Shape:
        - embeddings: `(B, D)`, from `model.encode(x)`
        - labels: `(B,)`, integers; −1 is an unlabeled item, which is left out of all pairs. If an item is known to
          be none of the others, give it a label of its own.
        - embeddings2, labels2: `(B2, D2)`, `(B2,)`
        - Output: a scalar, in float32 or the wider dtype of the embeddings

    Raises:
        TypeError: The model is not a comparator, the embeddings are not floating-point, or the labels not integers.
        ValueError: The objective is unknown, the margin is not above 0, shapes do not fit, the batch has no positive or
            no negative pair, the head has several outputs, or the budget is too small.
        RuntimeError: `distributed=True` without a process group, or another process raised an error.

    References:
        - Goldberger, Roweis, Hinton and Salakhutdinov, *Neighbourhood Components Analysis*, NIPS 2004.
        - van den Oord, Li and Vinyals, *Representation Learning with Contrastive Predictive Coding*, 2018,
          arXiv:1807.03748.
        - Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020,
          arXiv:2002.05709.
        - Schroff, Kalenichenko and Philbin, *FaceNet: A Unified Embedding for Face Recognition and Clustering*, CVPR
          2015, arXiv:1503.03832.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "product")
        >>> loss = pf.losses.AllPairsLoss(model, objective="margin")
        >>> x, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> loss(model.encode(x), labels).backward()
    """

    model: SiameseComparator

    def __init__(
        self,
        model: SiameseComparator,
        *,
        objective: str | None = None,
        margin: float | None = None,
        negatives: Negatives | None = None,
        max_bytes: int = MAX_BYTES,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, SiameseComparator):
            inner = next((name for name in ("module", "_orig_mod") if hasattr(model, name)), None)
            advice = f": pass the comparator inside it, model.{inner}" if inner else ""
            raise TypeError(f"AllPairsLoss expects model to be a SiameseComparator, got {type(model).__name__}{advice}")
        if objective is None:
            objective = "neighbors" if isinstance(model.fusion, Cosine) else "softmax"
        if objective not in OBJECTIVES:
            raise unknown_name("objective", objective, OBJECTIVES)
        for name, value in (("margin", margin), ("negatives", negatives)):
            if value is not None and objective != "margin":
                raise ValueError(f"AllPairsLoss takes {name} with objective='margin' only, got {objective!r}")
        if negatives not in (None, *get_args(Negatives)):
            raise unknown_name("kind of negatives", negatives, get_args(Negatives))
        margin = MARGIN if margin is None else check_positive("AllPairsLoss", "margin", margin)
        vars(self)["model"] = model  # not registered: its parameters are the model's alone
        self.objective = objective
        self.margin = margin
        self.negatives = negatives or "all"
        self.max_bytes = check_int("AllPairsLoss", "max_bytes", max_bytes)
        self.distributed = distributed
        self._is_first = True  # the head may have to start

    @override
    def forward(
        self, embeddings: Tensor, labels: Tensor, embeddings2: Tensor | None = None, labels2: Tensor | None = None
    ) -> Tensor:
        """Return the loss of one set with itself, or of two sets.

        Args:
            embeddings: Left embeddings.
            labels: Their labels.
            embeddings2: Right embeddings, which a model with two encoders needs. Without `labels2` they are of the same
                items in the same order, and items are not paired with themselves.
            labels2: The labels of other items on the right, such as documents for queries. Then every pair counts.
        """
        if self.distributed:
            return self._over_processes(embeddings, labels, embeddings2, labels2)
        batch = self._check(embeddings, labels, embeddings2, labels2)
        pairs = _pairs_of(batch)
        self._start(batch, batch.u)
        total, count = self._reduce(batch, pairs)
        return _divide(total, count)

    def _over_processes(self, *given: Any) -> Tensor:
        """Return the loss of the items of all processes, which is the same number in each of them."""
        check_group()
        try:
            batch = self._check(*given)
        except Exception:
            agree(None, None)  # so that the other processes raise an error as well, instead of waiting for this one
            raise
        sizes = agree(batch.u, batch.v, kind=2 * batch.one_set + (given[2] is None))
        before = sum(sizes.left[: torch.distributed.get_rank()])
        labels = gather(batch.labels, sizes.left)
        batch = batch._replace(
            labels=labels,
            rows=slice(before, before + len(batch.u)),
            v=gather(batch.v.to(torch.promote_types(batch.v.dtype, torch.float32)), sizes.right),
            labels2=labels if batch.one_set else gather(batch.labels2, sizes.right),
        )
        pairs = _pairs_of(batch)
        if self._is_first:
            self._start(batch, batch.v if batch.one_set and self.model.tied else gather(batch.u.detach(), sizes.left))
        total, count = self._reduce(batch, pairs, sizes.left)
        return sum_with_averaged_gradients(_divide(total, None if count is None else sum_of_all(count)))

    def _check(
        self, embeddings: Tensor, labels: Tensor, embeddings2: Tensor | None, labels2: Tensor | None
    ) -> "_Batch":
        """Return the labeled items of a batch."""
        if embeddings2 is None:
            if labels2 is not None:
                raise ValueError("AllPairsLoss expects embeddings2 with labels2, got labels2 alone")
            if not self.model.tied:
                raise ValueError(
                    "AllPairsLoss expects embeddings2 from the right encoder, because this model has two: "
                    "loss(model.encode(x), labels, model.encode(x, side='right'))"
                )
        u, v = embeddings, embeddings if embeddings2 is None else embeddings2
        _check_embeddings(self.model, u, v)
        labels = _check_labels("labels", labels, "embeddings", u)
        if labels2 is None and len(v) != len(u):
            raise ValueError(
                f"AllPairsLoss expects labels2 where embeddings2 are of other items, got {len(u)} embeddings and "
                f"{len(v)} embeddings2 without labels2"
            )
        one_set = labels2 is None
        labels2 = labels if labels2 is None else _check_labels("labels2", labels2, "embeddings2", v)
        u, labels = _labeled(u, labels)
        v, labels2 = _labeled(v, labels2)
        return _Batch(u, labels, slice(0, len(u)), v, labels2, one_set)

    def _reduce(self, batch: "_Batch", pairs: Pairs, sizes: list[int] | None = None) -> Share:
        """Return the share of the loss that the rows of a batch have, given how many the processes have."""
        most = max(sizes or [len(batch.u)])
        model = self.model
        u = model._fused_size(batch.u)
        v = u if batch.v is batch.u else model._fused_size(batch.v)
        rows = Rows(OBJECTIVES[self.objective](self.margin, self.negatives), pairs, batch.rows, sizes)
        return reduce_all_pairs(model.fusion, model.head, u, v, rows, max_bytes=self.max_bytes, most=most)

    def _start(self, batch: "_Batch", u: Tensor) -> None:
        """Start the head from the first batch that is trained on, given the left embeddings of all processes."""
        if self._is_first and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            started = True
            if wants_start(self.model):
                two = () if batch.one_set and self.model.tied else (batch.v, batch.labels2)
                calibrated = self.objective == "bce"
                started = start_from_batch("AllPairsLoss", self.model, u, batch.labels, *two, calibrated=calibrated)
            self._is_first = not started

    @override
    def extra_repr(self) -> str:
        options = f", margin={self.margin}, negatives={self.negatives!r}" if self.objective == "margin" else ""
        return f"objective={self.objective!r}{options}, max_bytes={self.max_bytes}, distributed={self.distributed}"


class _Batch(NamedTuple):
    """Items and their labels. `u` are the rows of this process, in all `labels`; `v` are the columns of all."""

    u: Tensor
    labels: Tensor
    rows: slice
    v: Tensor
    labels2: Tensor
    one_set: bool


def _pairs_of(batch: _Batch) -> Pairs:
    pairs = make_pairs(batch.labels, batch.labels2, one_set=batch.one_set)
    check_pairs(pairs)
    return pairs


def _divide(total: Tensor, count: Tensor | None) -> Tensor:
    return total if count is None else total / count.clamp(min=1)


def _check_embeddings(model: SiameseComparator, u: Tensor, v: Tensor) -> None:
    """Raise unless both are sets of embeddings that the model can score."""
    fusion = model.fusion
    for name, x, width in (("embeddings", u, fusion.in_features), ("embeddings2", v, fusion.in2_features)):
        check_tensor("AllPairsLoss", name, x)
        if not x.is_floating_point():
            raise TypeError(f"AllPairsLoss expects floating-point {name}, got dtype {x.dtype}")
        if x.ndim != 2 or x.shape[1] != width:
            raise ValueError(
                f"AllPairsLoss expects {name} of shape (B, {width}), as model.encode returns them, got {tuple(x.shape)}"
            )
    if u.device != v.device:
        raise ValueError(
            f"AllPairsLoss expects embeddings and embeddings2 on one device, got {u.device} and {v.device}"
        )
    parameter = first_parameter(nn.ModuleList([fusion, model.head]))
    if parameter is not None:
        check_like("AllPairsLoss", parameter, embeddings=u, embeddings2=v)
    check_rows_apart("AllPairsLoss", model.head)


def _check_labels(name: str, labels: Tensor, of: str, embeddings: Tensor) -> Tensor:
    """Return integer labels on the device of the embeddings; raise unless there is one for each."""
    check_tensor("AllPairsLoss", name, labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"AllPairsLoss expects {name} to be integers, got dtype {labels.dtype}: use {name}.long()")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"AllPairsLoss expects {name} of shape ({len(embeddings)},), one for each of the {of}, got shape "
            f"{tuple(labels.shape)}"
        )
    return labels.to(embeddings.device, torch.int64)


def _labeled(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the unlabeled items."""
    labeled = labels != UNLABELED
    return (x, labels) if labeled.all() else (x[labeled], labels[labeled])
