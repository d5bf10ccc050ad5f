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
from pairfuse.losses import AllPairsLoss

pytorch: Any = require_package("lightning.pytorch", "lightning")

__all__ = ["ComparatorModule", "PlateauCallback"]


class ComparatorModule(pytorch.LightningModule):  # type: ignore[misc]
    """A comparator that Lightning trains on batches `(items, labels)`, over all pairs of each batch.

    It logs `train_loss`, `val_loss` and `test_loss`. Validation and test need batches with positive pairs too, as
    `IdentityBatchSampler` makes them. To predict, use the model. With several processes the loss goes over the items of
    all of them. Pass `use_distributed_sampler=False` to the trainer then, because `IdentityBatchSampler` gives each
    process its share by itself. The sampler's `set_epoch` is called for you.

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
        return self._step("train_loss", batch)

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log its mean as `val_loss`."""
        return self._step("val_loss", batch)

    @override
    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log its mean as `test_loss`."""
        return self._step("test_loss", batch)

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

    def _step(self, name: str, batch: Any) -> Tensor:
        assert self.loss is not None
        items, labels = batch
        sides = [self.model.encode(items)]
        sides += [] if self.model.tied else [self.model.encode(items, side="right")]
        value = self.loss(sides[0], labels, *sides[1:])
        self.log(name, value, prog_bar=True, batch_size=len(labels))
        return value


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
