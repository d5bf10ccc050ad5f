"""`diagnose`: every probe on one model, without a trace."""

import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pairfuse._checks import check_module
from pairfuse._progress import show_progress
from pairfuse.diagnosis.probes import PROBES
from pairfuse.diagnosis.report import VERDICTS, Diagnosis, Finding
from pairfuse.diagnosis.sandbox import random_state_kept
from pairfuse.diagnosis.subject import Skip, Subject
from pairfuse.items.batches import Batch, count_items, describe, tensors


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
    allow_additive: bool = False,
    progress: bool = False,
) -> Diagnosis:
    """Find out why a model of pairs does not learn: any model, not only pairfuse's.

    Runs some twenty probes on a batch of pairs, each of which looks for one fault, from "computes a sum g(x1) + h(x2),
    which can never say *same*" to "the head is not in the optimizer". Where there is proof, a finding says so;
    elsewhere it says what was observed. The page *My siamese network is stuck at 0.5* explains each.

    It leaves no trace: the module computes with copies of its weights meanwhile. Modes, parameters, buffers, gradients,
    hooks, random states and the optimizer are afterwards what they were, also after an error or an interruption. What a
    model keeps in objects of its own, other than modules, tensors, dicts and lists, is called as it is.

    Args:
        model: A module or any callable of two batches that returns logits or probabilities: `(B,)`, `(B, 1)`, or
            `(B, 2)`, of which a softmax reads both and the second means "same". A model that takes one stacked tensor
            is wrapped: `lambda x1, x2: model(torch.stack([x1, x2], 1))`.
        x1: B left items, as the model takes them: a tensor, or nested dicts, tuples or lists of tensors, batch first.
            32 pairs or more are best.
        x2: B right items.
        y: Targets `(B,)`: 1 = same, 0 = different.
        module: The module behind a callable, where it is not one of the names that the callable uses.
        optimizer: The optimizer that is to train the model.
        loss: The loss, such as `nn.BCEWithLogitsLoss()`: whether it fits what the model returns.
        returns: What the model returns, where it is not to be found out.
        allow_additive: The model is additive, or has an order, on purpose: a ranking such as Bradley–Terry.
        progress: Show a progress bar; needs tqdm.

    Returns:
        A `Diagnosis`: `print` it, look at its `findings`, `plot` it.

    Raises:
        TypeError: An argument is of the wrong kind, or the model returns no floating-point tensor.
        ValueError: x1, x2 and y do not fit each other, all items are the same, or the model returns something else
            than a score or two for each pair.

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
        ('additive', 'fail', 'proved')
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
    _check_pairs(x1, x2, y)
    subject = Subject(
        model, x1, x2, y, module=module, optimizer=optimizer, loss=loss, returns=returns, allow_additive=allow_additive
    )
    with torch.inference_mode(False), torch.enable_grad(), random_state_kept(_devices(subject)):
        torch.manual_seed(0)
        with subject.lent():
            _prepare(subject)
        skipped = _run_probes(subject, progress)
    findings = sorted(subject.found.values(), key=lambda finding: VERDICTS.index(finding.verdict))
    return Diagnosis(tuple(findings), skipped, subject.grid, time.perf_counter() - start)


def _run_probes(subject: Subject, progress: bool) -> dict[str, str]:
    """Gather the findings of all probes, and for those that do not run the reasons."""
    skipped: dict[str, str] = {}
    for id in show_progress(PROBES, "diagnosing", len(PROBES)) if progress else PROBES:
        try:
            with subject.lent():
                result = PROBES[id](subject)
            subject.found[id] = Finding(id, result.verdict, result.proved, *result[1:4])
        except Skip as reason:
            skipped[id] = str(reason)
        except Exception as error:  # the others go on
            skipped[id] = f"could not run: {type(error).__name__}: {error}"
        if id == "not-finite" and id in subject.found and subject.found[id].verdict == "fail":
            return dict.fromkeys((other for other in PROBES if other != id), "see not-finite")
    return skipped


def _prepare(subject: Subject) -> None:
    """Call the model, so that whatever is wrong with its arguments is said before any probe."""
    try:
        subject.prepare()
    except Exception as error:
        error.add_note(f"diagnose called the model with {describe(subject.left)} and {describe(subject.right)}")
        if isinstance(error, TypeError) and "positional argument" in str(error):
            error.add_note("a model of one argument is wrapped: lambda x1, x2: model(torch.stack([x1, x2], 1))")
        raise


def _check_pairs(x1: Batch, x2: Batch, y: Tensor | None) -> None:
    size1, size2 = count_items("x1", x1), count_items("x2", x2)
    if size1 != size2:
        raise ValueError(
            f"x1 and x2 must hold the same number of items, got {size1} (x1 of {describe(x1)}) and {size2} (x2 of "
            f"{describe(x2)})"
        )
    if size1 == 0:
        raise ValueError(f"x1 and x2 must hold at least one pair, got none: {describe(x1)}")
    if y is None:
        return
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor of {size1} targets, 1 = same and 0 = different, got {type(y).__name__}")
    if y.shape not in ((size1,), (size1, 1)):
        raise ValueError(f"y must hold one target for each of {size1} pairs, shape ({size1},), got {describe(y)}")


def _devices(subject: Subject) -> set[torch.device]:
    held = [] if subject.module is None else [*subject.module.parameters(), *subject.module.buffers()]
    given = tensors("x1", subject.x1) + tensors("x2", subject.x2)
    return {tensor.device for tensor in [*held, *given]}
