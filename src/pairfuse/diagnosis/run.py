"""`diagnose`: every probe on one model, which is restored afterwards."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pairfuse._checks import check_module
from pairfuse._progress import show_progress
from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.interrupts import interrupts_deferred
from pairfuse.diagnosis.probe import Skip, Undecided
from pairfuse.diagnosis.probes import PROBES
from pairfuse.diagnosis.report import VERDICTS, Diagnosis, Finding
from pairfuse.diagnosis.runner import ModelRunner
from pairfuse.diagnosis.sample import Sample
from pairfuse.diagnosis.sandbox import random_state_kept
from pairfuse.items.batches import Batch, describe, tensors

_LOCK = threading.RLock()  # one for all models, since two may share modules, and all share the random state


def diagnose(
    model: Callable[[Any, Any], Any],
    x1: Batch,
    x2: Batch,
    y: Tensor | None = None,
    *,
    module: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., Any] | None = None,
    returns: Literal["logits", "probabilities"] | None = None,
    ranking: bool = False,
    progress: bool = False,
) -> Diagnosis:
    """Find out why a model of pairs does not learn: any model, not only pairfuse's.

    Runs about twenty probes on a batch of pairs. Each looks for one fault, from "computes a sum g(x1) + h(x2), which
    can never answer *same*" to "the head is not in the optimizer". A finding states its ground: proved, verified or
    observed. The page *My siamese network is stuck at 0.5* explains each probe.

    It leaves no trace. The module computes with copies of its weights meanwhile. Modes, parameters, buffers, gradients,
    hooks, random states and the optimizer are restored, also after an error. Objects of the model's own, other than
    modules, tensors, dicts and lists, are used as they are.

    In the main thread Ctrl-C takes effect between two calls of the model, through your own SIGINT handler if you have
    one. Several threads may call `diagnose`; one call waits for the other. Do not train, serve or change the same
    model in another thread meanwhile: it would compute with the copies.

    Args:
        model: A module or any callable of two batches that returns logits or probabilities: `(B,)`, `(B, 1)`, or
            `(B, 2)`, of which a softmax reads both and the second means "same". Wrap a model that takes one stacked
            tensor: `lambda x1, x2: model(torch.stack([x1, x2], 1))`.
        x1: B left items, as the model takes them: a tensor, or nested dicts, tuples or lists of tensors, batch first.
            32 pairs or more are best.
        x2: B right items.
        y: Targets `(B,)`: 1 = same, 0 = different.
        module: The module behind a callable, if it is not one of the names that the callable uses.
        optimizer: The optimizer that is to train the model.
        loss: The loss, such as `nn.BCEWithLogitsLoss()`, to check that it fits the targets and what the model returns.
        returns: What the model returns; found out if None.
        ranking: The order of a pair matters on purpose, as in Bradley–Terry, so the model may be additive.
        progress: Show a progress bar; needs tqdm.

    Returns:
        A `Diagnosis`: `print` it, look at its `findings`, `plot` it.

    Raises:
        TypeError: An argument is of the wrong kind, or the model does not return a floating-point tensor.
        ValueError: x1, x2 and y do not fit each other, all items are equal, a parameter of the model is lazy, or the
            model does not return one or two scores for each pair.

    Examples:
        >>> import torch, pairfuse as pf
        >>> class Concat(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.encoder, self.head = torch.nn.Linear(8, 4), torch.nn.Linear(8, 1)
        ...
        ...     def forward(self, x1, x2):
        ...         return self.head(torch.cat([self.encoder(x1), self.encoder(x2)], 1)).sigmoid()
        >>> finding = pf.diagnose(Concat(), torch.randn(32, 8), torch.randn(32, 8)).findings[0]
        >>> finding.id, finding.verdict, finding.ground
        ('additive', 'fail', 'verified')
    """
    start = time.perf_counter()
    if module is not None:
        check_module("diagnose", "module", module)
    if not callable(model):
        raise TypeError(f"model must be a module or a callable of two batches, got {type(model).__name__}")
    if optimizer is not None and not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a callable such as nn.BCEWithLogitsLoss(), got {type(loss).__name__}")
    if returns not in (None, "logits", "probabilities"):
        raise ValueError(f"returns must be 'logits', 'probabilities' or None, got {returns!r}")
    sample = Sample.of(x1, x2, y)
    with interrupts_deferred() as checkpoint, _one_at_a_time(checkpoint):
        runner = ModelRunner(model, module, checkpoint)
        context = Context(sample, runner, optimizer, loss, ranking)
        held = [*runner.tensors(), *tensors("x1", sample.x1), *tensors("x2", sample.x2)]
        with torch.inference_mode(False), torch.enable_grad(), random_state_kept({t.device for t in held}):
            torch.manual_seed(0)
            with runner.sandbox():
                _prepare(context, returns)
            skipped, undecided = _run_probes(context, progress)
    findings = sorted(context.findings.values(), key=lambda finding: VERDICTS.index(finding.verdict))
    return Diagnosis(tuple(findings), skipped, context.grid, time.perf_counter() - start, undecided)


def _run_probes(context: Context, progress: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """Gather the findings of all probes, the reasons of those that do not run, and the ids of the undecided."""
    skipped: dict[str, str] = {}
    undecided: list[str] = []
    for probe in show_progress(PROBES, "diagnosing", len(PROBES)) if progress else PROBES:
        try:
            context.findings[probe.id] = Finding(probe.id, *probe(context))
        except Skip as reason:
            skipped[probe.id] = str(reason)
        except Exception as error:  # the others go on
            text = "".join(str(error).splitlines()[:1])
            known = isinstance(error, Undecided)
            skipped[probe.id] = text if known else f"could not run: {type(error).__name__}: {text}"
            undecided += [probe.id] if probe.decisive else []
    return skipped, tuple(undecided)


def _prepare(context: Context, returns: str | None) -> None:
    try:
        context.prepare(returns)
    except Exception as error:
        sample = context.sample
        error.add_note(f"diagnose called the model with {describe(sample.left)} and {describe(sample.right)}")
        if isinstance(error, TypeError) and "positional argument" in str(error):
            error.add_note("a model of one argument is wrapped: lambda x1, x2: model(torch.stack([x1, x2], 1))")
        raise


@contextmanager
def _one_at_a_time(checkpoint: Callable[[], None]) -> Iterator[None]:
    while not _LOCK.acquire(timeout=0.1):
        checkpoint()
    try:
        yield
    finally:
        _LOCK.release()
