"""`to_onnx`: a module of pairfuse as an ONNX file that takes any batch size."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._checks import require_package
from pairfuse.decider import Decider
from pairfuse.export.inputs import Dynamic, leaves
from pairfuse.export.program import quiet, trace
from pairfuse.export.verifying import shorten
from pairfuse.items.batches import Batch
from pairfuse.search_modules import VectorEncoder


def to_onnx(module: nn.Module, path: str | os.PathLike[str], *inputs: Batch, dynamic: Dynamic | None = None) -> Path:
    """Export a module to an ONNX file that takes batches of any size. Needs the extra `onnx`.

    The file is compared with the module, in onnxruntime, on other batch sizes and lengths, before you get it. The two
    agree up to rounding, so their answers can differ for a score that is within rounding of the threshold.

    Args:
        module: As for `to_program`.
        path: The file. Weights of more than 2 GB go to a second file beside it.
        *inputs: As for `to_program`.
        dynamic: As for `to_program`.

    Returns:
        The path. The inputs of the file are named after the parameters of the module's `forward` (`x1`, `x2`; `items`;
        `queries`, `gallery`), followed by the keys or positions in a nested input, as in `x1_input_ids`. Its outputs
        are `probability` and `same` of a decider, `vectors` of an encoder, `logits` otherwise.

    Raises:
        ImportError: A package of the extra `onnx` is not installed.
        FileNotFoundError: The folder of the path does not exist.
        TypeError: As for `to_program`.
        ValueError: As for `to_program`, or an operator of the encoder is not in ONNX or onnxruntime.

    Examples:
        >>> import onnxruntime, tempfile, torch, pairfuse as pf
        >>> model, x = pf.SiameseComparator(torch.nn.Linear(8, 4)), torch.randn(1, 8)
        >>> path = pf.export.to_onnx(model, tempfile.mkdtemp() + "/model.onnx", x, x)
        >>> session = onnxruntime.InferenceSession(path)
        >>> x1, x2 = torch.randn(5, 8), torch.randn(5, 8)
        >>> (logits,) = session.run(None, {"x1": x1.numpy(), "x2": x2.numpy()})
        >>> torch.allclose(torch.from_numpy(logits), model(x1, x2), atol=1e-4)
        True
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require_package(package, "onnx")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"to_onnx expects path in an existing folder, got {path}")
    program, verifier = trace("to_onnx", module, inputs, dynamic)
    outputs = ["probability", "same"] if isinstance(module, Decider) else ["logits"]
    outputs = ["vectors"] if isinstance(module, VectorEncoder) else outputs
    names = [x.name for x in verifier.example.flat]
    try:
        with quiet():
            converted: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=verifier.example.axis_names(all_pairs=verifier.all_pairs),
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # torch wraps what happened in advice for its own developers
            cause = cause.__cause__
        raise ValueError(f"to_onnx cannot convert {type(module).__name__} to ONNX: {shorten(cause)}") from error
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        converted.save(Path(folder) / path.name)
        try:
            session = _Session(Path(folder) / path.name)
        except Exception as error:
            raise ValueError(
                f"to_onnx expects {type(module).__name__} to have operators that onnxruntime has, which fails: "
                f"{shorten(error)}. It lacks many for bfloat16: export the model in float32"
            ) from error
        verifier.compare(session)
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)
    return path


class _Session:
    """Calls an ONNX file with tensors."""

    def __init__(self, path: Path) -> None:
        self.session = require_package("onnxruntime", "onnx").InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Batch) -> list[Tensor]:
        given = [x for batch in inputs for _, x in leaves("", batch)]
        names = [x.name for x in self.session.get_inputs()]
        feeds = {name: x.numpy(force=True) for name, x in zip(names, given, strict=True)}
        return [torch.from_numpy(output) for output in self.session.run(None, feeds)]
