"""Export a comparator, its decider or the modules of its search: to `torch.export` or to ONNX, for any batch size."""

from pairfuse.export.onnx import to_onnx
from pairfuse.export.program import to_program

__all__ = ["to_onnx", "to_program"]
