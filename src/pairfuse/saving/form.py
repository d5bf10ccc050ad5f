"""An inner-product form in one file: tensors, and the fusion in their metadata."""

import copy
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from pairfuse.decisions.fields import check_fields
from pairfuse.fusions import Fusion
from pairfuse.saving import files
from pairfuse.saving.parts import build_or_pass, describe

FORMAT = 1
_TENSORS = ("weight", "constant", "origin", "scale")  # the last two may be missing


def save_parts(path: Path, fusion: Fusion, tensors: dict[str, Tensor]) -> None:
    """Write a fusion and tensors to a file."""
    state = {f"fusion.{name}": tensor for name, tensor in files.named_tensors(fusion).items()}
    config = {"format": FORMAT, "fusion": describe(fusion)}
    with TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        new = Path(folder) / path.name
        files.write_tensors(new, files.distinct({**tensors, **state}), {"inner_product_form": files.to_json(config)})
        os.replace(new, path)


def load_parts(path: Path, given: Fusion | None) -> tuple[Fusion, dict[str, Tensor]]:
    """Return the fusion and the tensors of a file. A fusion that was passed stays as it is; its copy is returned."""
    if not path.is_file():
        raise FileNotFoundError(f"load expects the file of an inner-product form, got {path}: there is none")
    found, metadata = files.read_kinds(path)
    if "inner_product_form" not in metadata:
        raise ValueError(f"{path} is not the file of an inner-product form, as form.save(path) writes it")
    config = files.from_json(str(path), metadata["inner_product_form"])
    files.check_format(path, config, FORMAT)
    try:
        check_fields("the form", config, ["format", "fusion"])
        planned = build_or_pass("load", "fusion", config["fusion"], given, device="meta")
        _check(planned, found)
        fusion: Any = copy.deepcopy(given)
        if fusion is None:
            fusion = build_or_pass("load", "fusion", config["fusion"], None, device="cpu")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    tensors = files.read_tensors(path)
    files.fill(fusion, {name.removeprefix("fusion."): x for name, x in tensors.items() if name not in _TENSORS}, path)
    return fusion, {name: x for name, x in tensors.items() if name in _TENSORS}


def _check(fusion: nn.Module, found: dict[str, files.Kind]) -> None:
    """Raise unless a file has the tensors of a form of this fusion."""
    if not isinstance(fusion, Fusion):
        raise ValueError(f"fusion must be a fusion, got {type(fusion).__name__}")
    state = {f"fusion.{name}": tensor for name, tensor in files.named_tensors(fusion).items()}
    due = files.kinds(files.distinct(state))
    dtype = "float64" if "weight" in found and found["weight"].dtype == "float64" else "float32"
    shapes = {"weight": (1, fusion.out_features), "constant": (), "origin": (fusion.in_features,), "scale": ()}
    due |= {name: files.Kind(shape, dtype) for name, shape in shapes.items() if name in found or name in _TENSORS[:2]}
    files.check_fit("the fusion", due, found)
