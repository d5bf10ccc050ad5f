"""The context of a probe: the sample, the runner, and the measurements that several probes need."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pairfuse.diagnosis.anova import rms, rounding
from pairfuse.diagnosis.function_recorder import BOUNDED, LOGIT_ACTIVATIONS, PROBABILITIES
from pairfuse.diagnosis.loss_kind import LossKind, kind_of
from pairfuse.diagnosis.outputs import Output, coarsest, sums_to_one, to_scores
from pairfuse.diagnosis.report import Finding
from pairfuse.diagnosis.runner import ModelRunner
from pairfuse.diagnosis.sample import Sample

DRAWS = 8  # of weights at either scale, to see what a model may return; at least as many must be finite
LARGE = 30  # times the current weights, which drives what can leave [-1, 1] out of it


@dataclass
class Context:
    """A model of pairs under diagnosis.

    Attributes:
        sample: The pairs.
        runner: The model.
        optimizer, loss: As the user gave them, or None.
        ranking: True if the order of a pair matters on purpose.
        findings: The findings so far, by id.
    """

    sample: Sample
    runner: ModelRunner
    optimizer: torch.optim.Optimizer | None = None
    loss: Callable[..., Any] | None = None
    ranking: bool = False
    findings: dict[str, Finding] = field(default_factory=dict)

    def prepare(self, returns: str | None) -> None:
        """Call the model, so that a wrong argument raises before any probe runs, and see what it returns."""
        self.runner.probabilities = self._returns_probabilities() if returns is None else returns == "probabilities"
        self.__dict__.pop("given", None)  # its logits are others now
        if self.sample.same_kind and not self._takes_swapped_sides():
            self.sample = self.sample.of_two_kinds()
        _ = self.given, self.grid, self.random

    @cached_property
    def given(self) -> Output:
        """The output for the given pairs, in eval mode."""
        return self.runner.score(*self.sample.some_pairs())

    @cached_property
    def grid(self) -> Tensor:
        """The logits of every left item with every right one, `(n, m)`."""
        return self.runner.score_all(self.sample.left, self.sample.right)

    def grid_of(self, of: str) -> Tensor:
        """The grid of another field of `Output`."""
        last = self.given.final_activation
        if of == "scores" and not self.runner.probabilities and (last is None or last.name not in LOGIT_ACTIVATIONS):
            of = "logits"
        return self.grid if of == "logits" else self.runner.score_all(self.sample.left, self.sample.right, of=of)

    @cached_property
    def grid_magnitude(self) -> float:
        """The size of the numbers that the grid is computed from."""
        return self.runner.magnitude(self.sample.left, self.sample.right, self.grid, self.precision)

    @property
    def varies(self) -> bool:
        """True if the logits of the grid differ by more than rounding."""
        return rms(self.grid - self.grid.mean()) > rounding(self.grid_magnitude, self.held_precision)

    @cached_property
    def random(self) -> bool:
        """True if two calls with the same pairs differ in eval mode, by more than rounding."""
        pairs = self.sample.some_pairs(8)
        first, second = (self.runner.score(*pairs).scores for _ in range(2))
        if torch.equal(first.nan_to_num(), second.nan_to_num()):
            return False
        size = self.runner.magnitude(*pairs, first, self.precision, of="scores", pairwise=True)
        return bool((first - second).nan_to_num().abs().max() > rounding(size, self.precision))

    @cached_property
    def precision(self) -> torch.dtype:
        """The coarsest floating-point type of weights, results and everything that was seen in between."""
        return coarsest(self.given.precision, self.held_precision)

    @cached_property
    def held_precision(self) -> torch.dtype:
        """The coarsest floating-point type of weights and results."""
        return coarsest(*(t.dtype for t in [*self.runner.tensors(), self.given.values] if t.is_floating_point()))

    @property
    def takes_logits(self) -> bool | None:
        """True if the loss takes logits, False if probabilities, None if neither is known."""
        takes = self.loss_kind.takes
        return None if takes is None else takes == "logits"

    @cached_property
    def loss_kind(self) -> LossKind:
        """What the loss expects."""
        return kind_of(self.loss, tuple(self.given.returned.shape))

    @cached_property
    def drawn(self) -> list[Tensor] | None:
        """The outputs of the model as it is and with random weights; None if too few of these are finite.

        Of a deep model large weights make nothing but infinities; therefore only the last layer's are large in half of
        the draws.
        """
        outputs = [self.given.values]
        for scale, seed in itertools.product((1, LARGE), range(DRAWS if self.redraws else 0)):
            with self.runner.sandbox(), torch.no_grad():
                self.runner.redraw(scale, seed, last=LARGE)
                outputs.append(self.runner.score(*self.sample.some_pairs(8)).values)
        enough = sum(bool(values.isfinite().all()) for values in outputs[1:]) >= DRAWS
        return outputs if enough or not self.redraws else None

    @cached_property
    def range(self) -> tuple[float, float]:
        """The least and the greatest score that the model was seen to return."""
        scores = [to_scores(values, self.runner.probabilities) for values in self._finite]
        if not scores:
            return -torch.inf, torch.inf
        return min(float(s.min()) for s in scores), max(float(s.max()) for s in scores)

    @property
    def returns_distance(self) -> bool:
        """True if no score was seen below 0, whatever the weights, and they are not probabilities."""
        return self.redraws and not self.runner.probabilities and self.range[0] >= 0 and self.range[1] > 0

    @cached_property
    def redraws(self) -> bool:
        """True if other weights can be drawn."""
        with self.runner.sandbox(), torch.no_grad():
            return self.runner.redraw(1.0)

    @property
    def _finite(self) -> list[Tensor]:
        rows = [values[values.reshape(len(values), -1).isfinite().all(1)] for values in self.drawn or []]
        return [values for values in rows if len(values)]

    def _takes_swapped_sides(self) -> bool:
        """False if the model raises where the sides are swapped, as with users and items in tables of two sizes."""
        _ = self.given  # a model that raises for these pairs too has another problem
        x1, x2 = self.sample.some_pairs()
        try:
            self.runner.score(x2, x1)
        except Exception:
            return False
        return True

    def _returns_probabilities(self) -> bool:
        activation = self.given.final_activation
        if activation is not None and activation.name in (*PROBABILITIES, *BOUNDED):
            return activation.name in PROBABILITIES
        within = [bool(((v >= 0) & (v <= 1)).all()) and (v.ndim == 1 or sums_to_one(v)) for v in self._finite]
        return bool(within) and all(within)
