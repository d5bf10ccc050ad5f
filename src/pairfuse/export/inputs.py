"""The inputs of an export: their names, which of their dimensions may vary, and inputs of other sizes."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from pairfuse._checks import check_int
from pairfuse.items.batches import Batch, combine, count_items

Dynamic: TypeAlias = Mapping[str, int | Sequence[int]]

SHIFTS = (0, -1, -2, 1, 2, 3)  # of a length; down first, since a model may have a largest one


class Input(NamedTuple):
    """A tensor among the inputs.

    Attributes:
        name: The parameter of `forward`, then the keys or positions that lead to the tensor: `x1_input_ids`.
        tensor: The tensor of the example, batch first.
        dims: Its dimensions that may vary, without the batch.
    """

    name: str
    tensor: Tensor
    dims: tuple[int, ...]


class Example:
    """An example of all inputs of a module, and inputs like it with other sizes.

    Args:
        owner: The caller, for errors.
        module: The module.
        batches: An example of each input.
        dynamic: The dimensions that may vary besides the batch, by the name of an input or of a tensor in it.
    """

    def __init__(self, owner: str, module: nn.Module, batches: tuple[Batch, ...], dynamic: Dynamic) -> None:
        self.names = names = list(inspect.signature(module.forward).parameters)
        if len(names) != len(batches):
            raise ValueError(
                f"{owner} expects an example of each input of {type(module).__name__}, {' and '.join(names)}, got "
                f"{len(batches)}"
            )
        if not isinstance(dynamic, Mapping):
            raise TypeError(
                f"{owner} expects dynamic to be a mapping such as {{'{names[0]}': 1}}, got {type(dynamic).__name__}"
            )
        self.batches = tuple(map(_plain, batches))
        for name, batch in zip(names, self.batches, strict=True):
            if count_items(name, batch) < 1:
                raise ValueError(f"{owner} expects {name} of at least one item, got none")
        dims = {name: _read_dims(owner, name, given) for name, given in dynamic.items()}
        self.inputs = [
            [Input(leaf, tensor, dims.get(leaf, dims.get(name, ()))) for leaf, tensor in leaves(name, batch)]
            for name, batch in zip(names, self.batches, strict=True)
        ]
        unknown = dims.keys() - set(names) - {x.name for x in self.flat}
        if unknown:
            known = ", ".join(dict.fromkeys([*names, *(x.name for x in self.flat)]))
            raise ValueError(f"{owner} expects dynamic for the inputs {known}, got {sorted(unknown)}")
        for x in self.flat:
            if x.dims and max(x.dims) >= x.tensor.ndim and x.name in dims:
                raise ValueError(
                    f"{owner} expects {x.name} to have a dimension {max(x.dims)}, got {x.tensor.ndim} dimensions"
                )
        self.inputs = [[x._replace(dims=_within(x)) for x in side] for side in self.inputs]

    @property
    def flat(self) -> list[Input]:
        """The tensors of all inputs in order."""
        return [x for side in self.inputs for x in side]

    def resized(self, *items: int, shifts: tuple[int, ...]) -> tuple[Batch, ...]:
        """Return inputs with these numbers of items and with shifted lengths, both input by input."""
        return self._map(lambda x, side: _resize(x, items[side], shifts[side]))

    def dynamic_shapes(self) -> tuple[Any, ...]:
        """Return the dimensions that may vary, as torch.export takes them."""
        return self._map(lambda x, side: dict.fromkeys((0, *x.dims), torch.export.Dim.AUTO))

    def axis_names(self, *, all_pairs: bool) -> tuple[Any, ...]:
        """Return names for the dimensions that may vary, each at its first place: `batch`, `x1_dim1`."""
        used: set[str] = set()

        def named(x: Input, side: int) -> dict[int, str]:
            name = self.names[side]
            names = {0: f"{name}_batch" if all_pairs else "batch", **{dim: f"{name}_dim{dim}" for dim in x.dims}}
            first = {dim: axis for dim, axis in names.items() if axis not in used}
            used.update(first.values())
            return first

        return self._map(named)

    def _map(self, function: Callable[[Input, int], Any]) -> tuple[Any, ...]:
        """Apply a function to every tensor and the position of its input. Keep the containers."""
        each = [iter(side) for side in self.inputs]
        return tuple(combine(lambda _, i=i: function(next(each[i]), i), batch) for i, batch in enumerate(self.batches))

    def unlike_shifts(self) -> tuple[int, ...]:
        """Return a shift of the lengths of each input so that they are at least 2 and differ between the inputs."""
        shifts: list[int] = []
        taken: set[int] = set()
        for side in self.inputs:
            sizes = {x.tensor.shape[dim] for x in side for dim in x.dims}
            fitting = [s for s in SHIFTS if all(size + s >= 2 and size + s not in taken for size in sizes)]
            shifts.append(fitting[0] if fitting else max(taken))
            taken |= {size + shifts[-1] for size in sizes}
        return tuple(shifts)

    def equal_shifts(self) -> tuple[int, ...]:
        """Return one shift of all lengths: lengths that are equal in the example stay equal."""
        sizes = [x.tensor.shape[dim] for x in self.flat for dim in x.dims]
        return (-1 if min(sizes, default=0) > 2 else 1,) * len(self.inputs)


def _within(x: Input) -> tuple[int, ...]:
    """Return the dims that a tensor has: those of an input need not be in all its tensors."""
    return tuple(dim for dim in x.dims if dim < x.tensor.ndim)


def _read_dims(owner: str, name: str, given: Any) -> tuple[int, ...]:
    dims = given if isinstance(given, (list, tuple, set)) else (given,)
    return tuple(sorted({check_int(owner, f"dynamic[{name!r}]", dim) for dim in dims}))


def _plain(batch: Batch) -> Batch:
    """Return a batch whose mappings are dicts, which torch.export takes."""
    if isinstance(batch, Mapping):
        return {key: _plain(value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)) and not hasattr(batch, "_fields"):
        return type(batch)([_plain(value) for value in batch])
    return batch


def leaves(name: str, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a batch with their names, in order."""
    if isinstance(batch, Tensor):
        yield name, batch
        return
    parts = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
    for key, part in parts:
        yield from leaves(f"{name}_{key}", part)


def _resize(x: Input, items: int, shift: int) -> Tensor:
    """Repeat or cut a tensor to a number of items, and its lengths to others: the values are those of the example."""
    resized = x.tensor.detach()
    for dim, size in ((0, items), *((dim, x.tensor.shape[dim] + shift) for dim in x.dims)):
        places = torch.arange(size, device=resized.device) % resized.shape[dim]
        resized = resized.index_select(dim, places)
    return resized
