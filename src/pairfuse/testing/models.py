"""An assertion for tests of a model of pairs: it can learn "same"."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pairfuse.diagnosis import diagnose
from pairfuse.items.batches import Batch


def assert_can_learn_same(
    model: Callable[[Any, Any], Any], x1: Batch, x2: Batch, y: Tensor | None = None, **options: Any
) -> None:
    """Assert that a model of pairs can learn "same or different": its diagnosis is `ok`, and it learns a quartet.

    A copy of the model must learn two items and their four pairs, which no sum g(x1) + h(x2) can; it takes 120 steps of
    Adam at most. For a test of your own model; afterwards the model is what it was.

    Args:
        model: As for [`diagnose`][pairfuse.diagnose].
        x1: As for `diagnose`.
        x2: As for `diagnose`.
        y: As for `diagnose`; needed where the two sides take different kinds of items.
        **options: As for `diagnose`.

    Raises:
        AssertionError: The model cannot learn it, did not in these steps, or the quartet could not be tried; the
            message is the diagnosis.

    Examples:
        >>> import torch, pairfuse as pf
        >>> from pairfuse.testing import assert_can_learn_same
        >>> assert_can_learn_same(pf.SiameseComparator(torch.nn.Linear(8, 4)), *torch.randn(2, 16, 8))
    """
    diagnosis = diagnose(model, x1, x2, y, **options)
    learned = any(finding.id == "xnor-overfit" and finding.verdict == "ok" for finding in diagnosis.findings)
    if not (diagnosis.ok and learned):
        raise AssertionError(f"the model was not seen to learn same or different\n{diagnosis}")
