"""`to_program`: a module of pairfuse as a program of `torch.export` that takes any batch size."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pairfuse._checks import check_module
from pairfuse._layers import check_initialized
from pairfuse._modes import eval_mode
from pairfuse.comparator import SiameseComparator
from pairfuse.decider import Decider
from pairfuse.export.inputs import Dynamic, Example
from pairfuse.export.verifying import Verifier, shorten
from pairfuse.items.batches import Batch
from pairfuse.scoring.blocks import without_autocast
from pairfuse.search_modules import AllPairsScorer, InnerProductScorer, VectorEncoder

ALL_PAIRS = (AllPairsScorer, InnerProductScorer)


def to_program(module: nn.Module, *inputs: Batch, dynamic: Dynamic | None = None) -> torch.export.ExportedProgram:
    """Export a module to a program of `torch.export` that takes batches of any size.

    The module is exported in eval mode, in its own dtypes. The program is compared with the module on other batch sizes
    and lengths before you get it. It shares its weights with the module, so save it, or export a snapshot (`decider`,
    `search_modules`), before you train on.

    Args:
        module: A `SiameseComparator` (logits), what its `decider()` returns, or one of its `search_modules()`.
        *inputs: An example of each input, as for calling the module, with at least one item. If the batch sizes or
            lengths of two inputs are equal in the example, they need not be later.
        dynamic: The dimensions that may vary besides the batch, for each input. For token ids and masks `(B, L)` on
            both sides: `{"x1": 1, "x2": 1}`. The key may also be one tensor of a nested input: `"x1_input_ids"`.

    Returns:
        The program. `program.module()` takes the inputs of the module, `torch.export.save` writes it to a file.

    Raises:
        TypeError: The module is of another kind, or an input is not a batch.
        ValueError: An example is missing or has no batch dimension, a lazy layer has not run yet, the module cannot be
            traced or does not take other sizes, or its code fixes a size that should vary.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model, x = pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(1, 8)
        >>> program = pf.export.to_program(model, x, x)
        >>> program.module()(torch.randn(5, 8), torch.randn(5, 8)).shape
        torch.Size([5])
    """
    return trace("to_program", module, inputs, dynamic)[0]


def trace(
    owner: str, module: nn.Module, inputs: tuple[Batch, ...], dynamic: Dynamic | None
) -> tuple[torch.export.ExportedProgram, Verifier]:
    """Return the program of a module, verified, and the verifier of the example."""
    check_kind(owner, module)
    check_initialized(owner, module)
    example = Example(owner, module, inputs, dynamic or {})
    with without_autocast(example.flat[0].tensor.device), torch.no_grad(), eval_mode(module) as still:
        verifier = Verifier(owner, still, example, all_pairs=isinstance(module, ALL_PAIRS))
        try:
            with quiet():
                program = torch.export.export(
                    still, verifier.given, dynamic_shapes=example.dynamic_shapes(), strict=False
                )
        except Exception as error:
            raise ValueError(
                f"{owner} cannot trace {type(module).__name__}: {shorten(error)}. Its code, and that of the encoder, "
                "must stay in torch and may not depend on the values of tensors, as in if x.sum() > 0"
            ) from error
        verifier.check_free(program)
        verifier.compare(program.module())
    return program, verifier


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what torch and onnxscript say about their own insides."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def check_kind(owner: str, module: Any) -> None:
    """Raise unless a module is one of those that are exported."""
    check_module(owner, "module", module)
    if not isinstance(module, (SiameseComparator, Decider, VectorEncoder, *ALL_PAIRS)):
        raise TypeError(
            f"{owner} expects module to be a SiameseComparator, its decider() or one of its search_modules(), got "
            f"{type(module).__name__}: export other modules with torch.export.export or torch.onnx.export"
        )
