"""Train a comparator with Lightning, and notice a loss that stays at chance. Needs the extra `lightning`."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from pairfuse._checks import check_int, check_positive, require_package
from pairfuse.comparator import SiameseComparator
from pairfuse.diagnosis import Diagnosis, diagnose
from pairfuse.evaluation.evaluate import evaluate_embeddings
from pairfuse.losses import AllPairsLoss

pytorch: Any = require_package("lightning.pytorch", "lightning")

__all__ = ["ComparatorModule", "PlateauCallback"]


class ComparatorModule(pytorch.LightningModule):  # type: ignore[misc]
    """A comparator that Lightning trains on batches `(items, labels)`, over all pairs of each batch.

    It logs `train_loss`. Validation and test log the area under the ROC curve and the equal error rate over all pairs
    of all their items: `val_auc`, `val_eer`, `test_auc` and `test_eer`. Their loaders give batches in any order. To
    predict, use the model.

    With several processes the loss goes over the items of all of them. Pass `use_distributed_sampler=False` to the
    trainer then, because `IdentityBatchSampler` gives each process its share by itself. The sampler's `set_epoch` is
    called for you. In validation and test each process judges the items that it gets, and the mean is logged.

    Args:
        model: The comparator. After training use it, not this module.
        optimizer: From parameters to an optimizer, such as `lambda p: torch.optim.AdamW(p, lr=1e-3)`. For schedulers
            override `configure_optimizers`.
        loss: From embeddings and labels, and right embeddings if the model has two encoders, to a scalar. By default
            `AllPairsLoss(model)`, across all processes of the trainer.

    Raises:
        ImportError: Lightning is not installed.
        TypeError: The model is not a `SiameseComparator`.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from lightning.pytorch import Trainer
        >>> from pairfuse.integrations.lightning import ComparatorModule
        >>> x, labels = torch.randn(40, 8), torch.arange(40) % 10
        >>> batches = pf.data.IdentityBatchSampler(labels, identities=5, items=4)
        >>> data = torch.utils.data.TensorDataset(x, labels)
        >>> loader = torch.utils.data.DataLoader(data, batch_sampler=batches)
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "cosine")
        >>> module = ComparatorModule(model, lambda p: torch.optim.AdamW(p, lr=1e-3))
        >>> Trainer(max_epochs=3).fit(module, loader)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: SiameseComparator,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        loss: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, SiameseComparator):
            raise TypeError(f"ComparatorModule expects model to be a SiameseComparator, got {type(model).__name__}")
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self._encoded: list[tuple[Tensor, Tensor, Tensor]] = []

    @override
    def setup(self, stage: str) -> None:
        """Make the default loss, once the number of processes is known."""
        if self.loss is None:
            self.loss = AllPairsLoss(self.model, distributed=self.trainer.world_size > 1)

    @override
    def forward(self, x1: Any, x2: Any) -> Tensor:
        """Return the logits of pairs, as the comparator does."""
        return self.model(x1, x2)  # type: ignore[no-any-return]

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it as `train_loss`."""
        assert self.loss is not None
        u, v, labels = self._encode(batch)
        value = self.loss(u, labels) if self.model.tied else self.loss(u, labels, v)
        self.log("train_loss", value, prog_bar=True, batch_size=len(labels))
        return value

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Encode a batch for the evaluation at the end of the epoch."""
        self._encoded.append(self._encode(batch))

    @override
    def on_validation_epoch_end(self) -> None:
        """Log `val_auc` and `val_eer`."""
        self._evaluate("val")

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Encode a batch for the evaluation at the end of the epoch."""
        self._encoded.append(self._encode(batch))

    @override
    def on_test_epoch_end(self) -> None:
        """Log `test_auc` and `test_eer`."""
        self._evaluate("test")

    @override
    def configure_optimizers(self) -> Any:
        """Return the optimizer of all parameters that are trained."""
        return self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)

    @override
    def on_train_epoch_start(self) -> None:
        """Tell the batch samplers the epoch, for new batches."""
        for loader in tree_leaves(self.trainer.train_dataloader):
            sampler = getattr(loader, "batch_sampler", None)
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.current_epoch)

    def _encode(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return left and right embeddings and labels of a batch."""
        items, labels = batch
        u = self.model.encode(items)
        return u, u if self.model.tied else self.model.encode(items, side="right"), labels

    def _evaluate(self, stage: str) -> None:
        """Judge all pairs of the items, and log the figures, averaged over the processes."""
        encoded, self._encoded = self._encoded, []
        if self.trainer.sanity_checking:
            return  # a few batches may have no positive pair
        report = evaluate_embeddings(self.model, *(torch.cat(column) for column in zip(*encoded, strict=True)))
        self.log(f"{stage}_auc", report.auc.value, prog_bar=True, sync_dist=True)
        self.log(f"{stage}_eer", report.eer.value, prog_bar=True, sync_dist=True)


class PlateauCallback(pytorch.Callback):  # type: ignore[misc]
    """Print a diagnosis, once, when the loss has stayed at chance: at ln 2, the floor of an additive model.

    It is for any `LightningModule` that is called with pairs, `module(x1, x2)`, has batches `(x1, x2, y)` and returns
    the loss from `training_step`.

    Args:
        steps: Number of the last losses whose mean is watched.
        within: How near to ln 2 the mean must be.

    Attributes:
        diagnosis: The diagnosis; None until the loss has stayed there.

    Raises:
        TypeError: A batch is not `(x1, x2, y)`.

    Examples:
        >>> from lightning.pytorch import Trainer
        >>> from pairfuse.integrations.lightning import PlateauCallback
        >>> trainer = Trainer(callbacks=[PlateauCallback()])  # doctest: +SKIP
    """

    def __init__(self, *, steps: int = 100, within: float = 0.01) -> None:
        super().__init__()
        self.losses: deque[float] = deque(maxlen=check_int("PlateauCallback", "steps", steps))
        self.within = check_positive("PlateauCallback", "within", within)
        self.diagnosis: Diagnosis | None = None

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss, and diagnose the module if it is stuck."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if self.diagnosis is not None or not isinstance(loss, Tensor):
            return
        self.losses.append(float(loss.detach()))
        full = len(self.losses) == self.losses.maxlen
        if not full or abs(sum(self.losses) / len(self.losses) - math.log(2)) >= self.within:
            return
        if not isinstance(batch, (list, tuple)) or len(batch) != 3:
            raise TypeError(f"PlateauCallback expects batches (x1, x2, y), got {type(batch).__name__} of {len(batch)}")
        with torch.enable_grad():
            self.diagnosis = diagnose(pl_module, *batch)
        print(self.diagnosis)
