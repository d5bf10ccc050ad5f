"""Finding the two embeddings inside any model: the last values that only one of the inputs decides."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairfuse.diagnosis.function_recorder import Call, Calls, same_numbers
from pairfuse.diagnosis.module_search import named_weights
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.subject import Output, Skip, Subject
from pairfuse.items.batches import Batch, count_items

PRODUCTS = ("mul", "multiply", "imul", "rmul")


class Embedded(NamedTuple):
    """What a model makes of pairs.

    Attributes:
        u, v: The embeddings of the left and of the right items, `(B, D)`, still part of the graph of `output`.
        output: What the model says of the pairs.
        multiplied: Whether the model multiplies u by v, coordinate by coordinate.
    """

    u: Tensor
    v: Tensor
    output: Output
    multiplied: bool


def embed(subject: Subject, x1: Batch, x2: Batch, *, gradients: bool = False) -> Embedded:
    """The embeddings of pairs in eval mode.

    They are found by what they depend on: the model is called three times, once with the left items in another order
    and once with the right ones, and of all tables `(B, D)` that it makes on its way the last is taken that changes
    with one side only.

    Raises:
        Skip: There are none, as in a model that joins the two inputs before it encodes them.
    """
    count = count_items("x1", x1)
    rolled = torch.arange(count).roll(1)

    def kept(name: str, result: Tensor) -> bool:
        return result.ndim == 2 and result.is_floating_point() and len(result) == count

    runs: list[tuple[Output, Calls, list[Tensor]]] = []
    for left, right in ((x1, x2), (take(x1, rolled), x2), (x1, take(x2, rolled))):
        calls = Calls(kept)
        output = subject.score(left, right, gradients=gradients and not runs, calls=calls)
        runs.append((output, calls, [call.result for call in calls.kept if kept(call.name, call.result)]))
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
    multiplied = any(_multiplies(call, u, v) for call in calls.kept)
    return Embedded(u, v, output, multiplied)


def embed_items(subject: Subject) -> tuple[Tensor, Tensor]:
    """The embeddings of the left and of the right items, `(n, D)` and `(m, D2)`, float64."""
    count = min(subject.rows, subject.columns)
    left, right = take(subject.left, range(count)), take(subject.right, range(count))
    found = embed(subject, left, right)
    return found.u.detach().double(), found.v.detach().double()


class Owners(NamedTuple):
    """Which parameters, by name, make the left embedding, and which the right one."""

    left: set[str]
    right: set[str]


def owners(subject: Subject) -> Owners:
    """Where each parameter of the model acts; call it where the module is lent."""
    parameters = named_weights(subject.needs_module())
    for parameter in parameters.values():
        parameter.requires_grad_(parameter.is_floating_point())
    count = min(subject.rows, subject.columns)
    found = embed(subject, take(subject.left, range(count)), take(subject.right, range(count)), gradients=True)
    return Owners(_reached(found.u, parameters), _reached(found.v, parameters))


def _reached(output: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    if not output.requires_grad:
        return set()
    wanted = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    gradients = torch.autograd.grad(
        output.nan_to_num().sum(), list(wanted.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, gradient in zip(wanted, gradients, strict=True) if gradient is not None}


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _multiplies(call: Call, u: Tensor, v: Tensor) -> bool:
    if call.name not in PRODUCTS or call.second is None or u.shape != v.shape:
        return False
    pair = (call.first, call.second)
    return any(
        all(
            same_numbers(x, of) or (x.shape == of.shape and torch.equal(x, of))
            for x, of in zip(pair, side, strict=True)
        )
        for side in ((u, v), (v, u))
    )
