"""The files of a saved model: tensors as safetensors, everything else as JSON. Nothing in them is ever run."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pairfuse.decisions.fields import without_nan
from pairfuse.fusions import Fusion
from pairfuse.fusions.identity import other_identity

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CARD_MARK = "<!-- Written by pairfuse. Remove this line, and the next save keeps your changes. -->"
_NAMED = 5  # tensors that an error names
_CODES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.bool: "BOOL"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.complex64: "C64"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
}
_DTYPES = {code: str(dtype).removeprefix("torch.") for dtype, code in _CODES.items()}


class Kind(NamedTuple):
    """What is known about a tensor without reading it."""

    shape: tuple[int, ...]
    dtype: str


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module. `torch.compile` of a part does not change the names.

    Raises:
        ValueError: An entry is not an ordinary tensor with values.
    """
    found = {}
    for name, value in module.state_dict(keep_vars=True).items():
        name = plain_name(name)
        if not isinstance(value, Tensor):
            raise ValueError(
                f"a saved model has only tensors, got {type(value).__name__} as {name}: let get_extra_state return one"
            )
        if is_traceable_wrapper_subclass(value) or value.layout != torch.strided or value.dtype not in _CODES:
            raise ValueError(
                f"a saved model has only ordinary tensors, got {name} of {type(value).__name__}, {value.layout}, "
                f"{value.dtype}: gather a sharded model first, and save a quantized one before it is quantized"
            )
        found[name] = value
    return found


def plain_name(name: str) -> str:
    """Return the name of an entry as it is without `torch.compile`."""
    return name.replace("_orig_mod.", "")


def distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor once, by the first of its names: shared weights are written once."""
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensors[name] for name in first.values()}


def kinds(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    """Return the shapes and dtypes of tensors."""
    return {name: Kind(tuple(x.shape), _DTYPES[_CODES[x.dtype]]) for name, x in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, each with its own memory, whatever views they are.

    Raises:
        ValueError: A tensor is on the meta device, so that it has no values.
    """
    from safetensors.torch import save_file  # only a program that saves or loads pays for it

    ready, taken = {}, set()
    for name, value in tensors.items():
        if value.is_meta:
            raise ValueError(f"save_pretrained expects tensors with values, got {name} on the meta device")
        tensor = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        ready[name] = tensor
    save_file(ready, path, metadata)


def write_folder(folder: Path, tensors: Mapping[str, Tensor], config: dict[str, Any], card: str) -> None:
    """Write a saved model. While files are replaced there is no config, so that a mixture cannot be loaded.

    Raises:
        NotADirectoryError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"save_pretrained expects a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        new = Path(name)
        write_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        (new / CONFIG).write_text(to_json(config, indent=2) + "\n", encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")
        (folder / CONFIG).unlink(missing_ok=True)
        os.replace(new / WEIGHTS, folder / WEIGHTS)
        if not (folder / CARD).exists() or CARD_MARK in (folder / CARD).read_text(encoding="utf-8", errors="replace"):
            os.replace(new / CARD, folder / CARD)
        os.replace(new / CONFIG, folder / CONFIG)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON: NaN, which it does not have, becomes null."""
    return json.dumps(without_nan(value), indent=indent, allow_nan=False, ensure_ascii=False)


def from_json(owner: str, text: str | bytes) -> Any:
    """Return what strict JSON says.

    Raises:
        ValueError: The text is not JSON; `owner` names it.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{owner} is not valid JSON, it may be truncated: {error}") from error


def find_file(folder: Path, name: str) -> Path:
    """Return a file of a folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is a link that leads out of the folder, other than into the cache of the Hub's client.
    """
    path, root = folder / name, folder.resolve()
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {name}: it is not the folder of a saved model, or saving was interrupted"
        )
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise ValueError(f"{path} is a link that leads out of its folder: copy the file there instead")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is not a file of safetensors, or it is truncated: {error}") from error


def read_kinds(path: Path) -> tuple[dict[str, Kind], dict[str, str]]:
    """Return the shapes and dtypes of the tensors of a file, without reading them, and its metadata.

    Raises:
        ValueError: The file is not one of safetensors, or it is truncated.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        found = {
            name: Kind(tuple(x.get_shape()), _DTYPES.get(x.get_dtype(), x.get_dtype())) for name, x in slices.items()
        }
        return found, dict(file.metadata() or {})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file. It raises the errors of `read_kinds`."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def check_format(path: Path, values: Any, known: int) -> None:
    """Raise if a file says that it is of a newer format, whatever its other fields are."""
    written = values.get("format") if isinstance(values, dict) else None
    if isinstance(written, int) and written > known:
        raise ValueError(
            f"{path} is of format {written}, which a newer pairfuse has written, and this one reads format {known}: "
            "upgrade pairfuse"
        )
    if isinstance(values, dict) and (isinstance(written, bool) or written != known):
        raise ValueError(f"{path}: format must be {known}, got {written!r:.80}")


def check_fit(whose: str, due: Mapping[str, Kind], found: Mapping[str, Kind]) -> None:
    """Raise unless a file has exactly the tensors of a model. What fusions say about themselves is compared later."""
    due, found = ({n: kind for n, kind in of.items() if not n.endswith("_extra_state")} for of in (due, found))
    if different := differences(due, found):
        raise ValueError(f"{whose} and the saved weights differ. {different[:1].upper()}{different[1:]}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a module that they fit. Fusions compare what they are with what the tensors are of.

    Raises:
        ValueError: The tensors are of another fusion. The module is unchanged then.
    """
    first: dict[int, str] = {}
    current = module.state_dict(keep_vars=True)  # holds each tensor, so that no id is used twice
    written = {name: first.setdefault(id(tensor), plain_name(name)) for name, tensor in current.items()}
    for at, fusion in module.named_modules():
        key = plain_name(f"{at}._extra_state".removeprefix("."))
        if isinstance(fusion, Fusion) and (other := other_identity(fusion, tensors.get(key))):
            raise ValueError(f"{path}: {other}")
    try:
        module.load_state_dict({name: tensors[at] for name, at in written.items() if at in tensors})
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def differences(due: Mapping[str, Kind], found: Mapping[str, Kind]) -> str:
    """Return in words how the tensors of a file differ from those of a model; "" if they do not."""
    both = [name for name in due if name in found]
    shapes = [f"{n} {due[n].shape}, in the file {found[n].shape}" for n in both if due[n].shape != found[n].shape]
    dtypes = [f"{n} {due[n].dtype}, in the file {found[n].dtype}" for n in both if due[n].dtype != found[n].dtype]
    lists = {
        "not in the file": [name for name in due if name not in found],
        "only in the file": [name for name in found if name not in due],
        "of another shape": shapes,
        "of another dtype": dtypes,
    }
    return "; ".join(f"{what}: {_some(names)}" for what, names in lists.items() if names)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
