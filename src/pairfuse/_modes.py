"""Eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


@contextmanager
def eval_mode(model: M) -> Iterator[M]:
    """Eval mode inside; afterwards, also after an error, every submodule is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:  # parents first, since train() reaches their children too
            if module.training != training:
                module.train(training)  # not only the flag: some modules do more, such as merging weights
