"""`Decider`: a comparator with its decision as one small module, for a server."""

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._layers import check_initialized, check_rows_apart
from pairfuse._modes import frozen_copy
from pairfuse.decisions import Decision
from pairfuse.items.batches import Batch


class Decider(nn.Module):
    """Answer for pairs: the probability that they are the same, and whether the decision calls them the same.

    Made by `SiameseComparator.decider`. It is a snapshot in eval mode: later training of the model, or another
    decision, does not change it. `pairfuse.export` turns it into a program or an ONNX file.

    Args:
        model: A comparator with one logit for each pair.
        decision: When two things count as the same.

    Attributes:
        model: The comparator, copied and frozen.
        decision: The decision.

    Shape:
        - x1, x2: As for calling the model
        - Output: A tuple of probabilities `(B,)` and bools `(B,)`. For up to 256 pairs they are exactly those of
          `model.predict_proba` and `model.same`.

    Raises:
        ValueError: A layer is lazy and has not run yet, a batch norm has no running statistics, or the head has several
            outputs.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "abs-diff")
        >>> items, labels = torch.randn(30, 8).repeat(2, 1), torch.arange(60) % 30  # every item twice
        >>> model.decision = pf.evaluate(model, items, labels).decide(far=0.05)
        >>> probability, same = model.decider()(items[:2], items[30:32])
        >>> same
        tensor([True, True])
    """

    def __init__(self, model: nn.Module, decision: Decision) -> None:
        super().__init__()
        check_initialized("decider", model)
        self.model: Any = frozen_copy("decider", model)
        check_rows_apart("decider", self.model)
        self.decision = decision
        self.training = False

    @override
    def forward(self, x1: Batch, x2: Batch) -> tuple[Tensor, Tensor]:
        """Return the probabilities and the answers of pairs, as a plain tuple: programs load without pairfuse."""
        logits: Tensor = self.model(x1, x2)
        if logits.ndim > 1:
            raise ValueError(
                f"a Decider expects a head with one output, got {logits.shape[1]}: these are classes, which have no "
                "threshold. Export the model itself"
            )
        return self.decision.logits(logits).sigmoid(), self.decision.accepts(logits)
