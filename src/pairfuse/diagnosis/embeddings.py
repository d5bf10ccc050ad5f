"""Finding the two embeddings inside any model: the last values that only one of the inputs decides."""

from typing import NamedTuple

import torch
from torch import Tensor

from pairfuse.diagnosis.context import Context
from pairfuse.diagnosis.function_recorder import Call, FunctionRecorder, same_numbers
from pairfuse.diagnosis.outputs import Output
from pairfuse.diagnosis.probe import Skip
from pairfuse.diagnosis.sample import take
from pairfuse.items.batches import Batch, count_items

PRODUCTS = ("mul", "multiply", "imul", "rmul")


class Embedded(NamedTuple):
    """The embeddings of a batch of pairs.

    Attributes:
        u, v: The embeddings of the left and of the right items, `(B, D)`, still part of the graph of `output`.
        output: The output for these pairs.
        multiplied: True if the model multiplies u by v, coordinate by coordinate.
    """

    u: Tensor
    v: Tensor
    output: Output
    multiplied: bool


def embed(context: Context, x1: Batch, x2: Batch, *, gradients: bool = False) -> Embedded:
    """The embeddings of pairs in eval mode.

    They are found by what they depend on. The model is called three times, once with the left items in another order
    and once with the right ones. Of all tables `(B, D)` that it makes, an embedding is the last that changes with one
    side only.

    Raises:
        Skip: There are none, as in a model that joins the two inputs before it encodes them.
    """
    count = count_items("x1", x1)
    rolled = torch.arange(count).roll(1)

    def wanted(name: str, result: Tensor) -> bool:
        return result.ndim == 2 and result.is_floating_point() and len(result) == count

    runs: list[tuple[Output, list[Call], list[Tensor]]] = []
    for left, right in ((x1, x2), (take(x1, rolled), x2), (x1, take(x2, rolled))):
        recorder = FunctionRecorder(wanted)
        output = context.runner.score(left, right, gradients=gradients and not runs, recorder=recorder)
        tables = [call.result for call in recorder.kept if wanted(call.name, call.result)]
        runs.append((output, recorder.kept, tables))
    (output, calls, tables), (_, _, with_left), (_, _, with_right) = runs
    if not len(tables) == len(with_left) == len(with_right):
        raise Skip("the model does not call the same functions each time")
    u = v = None
    for table, of_left, of_right in zip(tables, with_left, with_right, strict=True):
        by_left, by_right = not _equal(table, of_left), not _equal(table, of_right)
        if by_left and not by_right:
            u = table
        if by_right and not by_left:
            v = table
    if u is None or v is None:
        raise Skip("no embeddings (B, D) were seen that only one of the inputs decides")
    return Embedded(u, v, output, any(_multiplies(call, u, v) for call in calls))


def owners(context: Context) -> tuple[set[str], set[str]]:
    """The names of the parameters that make the left embedding, and of those that make the right one."""
    parameters = context.runner.parameters()
    found = embed(context, *context.sample.mixed_pairs(), gradients=True)
    return _reached(found.u, parameters), _reached(found.v, parameters)


def _reached(output: Tensor, parameters: dict[str, Tensor]) -> set[str]:
    if not output.requires_grad or not parameters:
        return set()
    gradients = torch.autograd.grad(
        output.nan_to_num().sum(), list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _multiplies(call: Call, u: Tensor, v: Tensor) -> bool:
    if call.name not in PRODUCTS or call.second is None or u.shape != v.shape:
        return False
    a, b = call.first, call.second
    return (_is(a, u) and _is(b, v)) or (_is(a, v) and _is(b, u))


def _is(a: Tensor, b: Tensor) -> bool:
    return same_numbers(a, b) or (a.shape == b.shape and torch.equal(a, b))
