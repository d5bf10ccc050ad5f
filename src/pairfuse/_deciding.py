"""The part of a comparator that answers: probabilities, and "same" or not."""

import torch
from torch import Tensor, nn

from pairfuse._checks import check_int
from pairfuse._layers import check_rows_apart
from pairfuse._modes import eval_mode
from pairfuse.decisions import Decision
from pairfuse.fusions import Fusion
from pairfuse.heads import warn_of_probabilities
from pairfuse.items.batches import Batch, take_rows


class Deciding(nn.Module):
    """Probabilities and answers for pairs. With a decision they are calibrated and have known error rates."""

    _decision: Decision | None = None
    fusion: Fusion
    head: nn.Module

    def _is_single(self, x1: Batch, x2: Batch) -> bool:
        """True if the inputs are two items without a batch dimension."""
        raise NotImplementedError

    def _count_pairs(self, x1: Batch, x2: Batch) -> int:
        raise NotImplementedError

    @property
    def comparison(self) -> str:
        """The fusion and the head in words. A decision is for one comparison."""
        return f"{self.fusion!r} -> {self.head!r}"

    @property
    def decision(self) -> Decision | None:
        """When two things count as the same: set what `Report.decide` returns; None if there is no decision yet.

        Raises:
            TypeError: The value is neither a `Decision` nor None.
            ValueError: The decision was made on the scores of another fusion or head.
        """
        return self._decision

    @decision.setter
    def decision(self, decision: Decision | None) -> None:
        if decision is not None and not isinstance(decision, Decision):
            raise TypeError(
                f"decision must be a Decision, as report.decide(far=0.01) returns it, got {type(decision).__name__}"
            )
        if decision is not None and decision.comparison not in ("", self.comparison):
            raise ValueError(
                f"decision must be of this model's fusion and head, {self.comparison}, got one that was made on the "
                f"scores of {decision.comparison}: evaluate this model and decide again"
            )
        self._decision = decision

    def _current_decision(self, owner: str) -> Decision | None:
        """Return the decision. Raise if the fusion or the head has been replaced since it was set."""
        decision = self._decision
        if decision is not None and decision.comparison not in ("", self.comparison):
            raise ValueError(
                f"{owner} expects a decision of this model's fusion and head, {self.comparison}, got one for "
                f"{decision.comparison}, which were replaced: decide again, or set model.decision = None"
            )
        return decision

    @torch.no_grad()
    def predict_proba(self, x1: Batch, x2: Batch, *, batch_size: int = 256) -> Tensor:
        """Return the probability that each pair is the same, in eval mode and without gradients.

        With a decision, the probabilities are calibrated and for the decision's prior. The mode of every submodule
        stays as it is, also after an error. There is a warning if a head of your own looks as if it returned
        probabilities instead of logits: it does not end in an `nn.Linear`, and the outputs of 8 or more pairs are all
        in [0, 1].

        Args:
            x1: As for calling the model.
            x2: As for calling the model.
            batch_size: Number of pairs that go through the model at a time.

        Returns:
            Probabilities in [0, 1] with the shape of the logits: `sigmoid(logits)`. If the head has K > 1 outputs,
            these are classes: each row is `softmax(logits)` and sums to 1.

        Raises:
            ValueError: A batch norm has no running statistics, so that a result would depend on the other pairs; or
                calling the model raises it.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "abs-diff")
            >>> x = torch.randn(1, 8)
            >>> model.predict_proba(x, x)  # a distance of 0: the head starts at 95 %
            tensor([0.9526])
        """
        decision = self._current_decision("predict_proba")
        logits, several = self._logits("predict_proba", x1, x2, batch_size)
        if several:
            return logits.softmax(-1)
        return (logits if decision is None else decision.logits(logits)).sigmoid()

    @torch.no_grad()
    def same(self, x1: Batch, x2: Batch, *, batch_size: int = 256) -> Tensor:
        """Return True for each pair that the decision calls the same, in eval mode and without gradients.

        Args:
            x1: As for calling the model.
            x2: As for calling the model.
            batch_size: As for `predict_proba`.

        Returns:
            A bool tensor `(B,)`; `()` for an unbatched pair. A pair is the same if its score is at least
            `model.decision.threshold`.

        Raises:
            ValueError: The model has no decision, its fusion or head was replaced since, the head has several outputs,
                or `predict_proba` raises it.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "abs-diff", embedding_dim=2)
            >>> items, labels = torch.randn(60, 2), torch.arange(60) % 30
            >>> items[30:] = items[:30]  # every item twice
            >>> model.decision = pf.evaluate(model, items, labels).decide(far=0.05)
            >>> bool(model.same(items[:30], items[30:]).all())
            True
        """
        decision = self._current_decision("same")
        if decision is None:
            raise ValueError(
                "same expects a model with a decision, got none: set model.decision = "
                "pf.evaluate(model, items, labels).decide(far=0.01), on identities kept out of training"
            )
        logits, several = self._logits("same", x1, x2, batch_size)
        if several:
            raise ValueError(f"same expects a head with one output, got {logits.shape[-1]}: classes have no threshold")
        return decision.accepts(logits)

    def _logits(self, owner: str, x1: Batch, x2: Batch, batch_size: int) -> tuple[Tensor, bool]:
        """Return the logits of pairs in eval mode, and whether there are several for each pair."""
        batch_size = check_int(owner, "batch_size", batch_size)
        with eval_mode(self) as model:
            check_rows_apart(owner, model)
            single, pairs = model._is_single(x1, x2), model._count_pairs(x1, x2)
            logits: Tensor
            if pairs <= batch_size:
                logits = model(x1, x2)
            else:
                slices = [(start, start + batch_size) for start in range(0, pairs, batch_size)]
                logits = torch.cat([model(take_rows(x1, *rows), take_rows(x2, *rows)) for rows in slices])
            if not single:
                warn_of_probabilities(model.head, logits)
        return logits, logits.ndim > (0 if single else 1)
