"""Running a model of pairs: in a sandbox, in either mode, with its weights as they are or redrawn."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from pairfuse._modes import is_training, set_mode
from pairfuse.diagnosis.function_recorder import FunctionRecorder
from pairfuse.diagnosis.module_search import all_modules, find_module, named_weights, unwrapped
from pairfuse.diagnosis.nudges import Nudges
from pairfuse.diagnosis.outputs import Output, read_output
from pairfuse.diagnosis.sample import take
from pairfuse.diagnosis.sandbox import sandbox
from pairfuse.items.batches import Batch, combine, count_items

QUARTILE, QUARTILE_OF_NORMAL = 0.75, 1.15  # of absolute values, in standard deviations
CHUNK = 64  # pairs at a time
NUDGE = 1e-3  # up to so much of each number is taken off, to see how the scores change
CANNOT = (NotImplementedError, RuntimeError, TypeError, ValueError)  # what classes of tensors raise for what they lack
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class ModelRunner:
    """A model of pairs. Inside `sandbox` it may be trained and changed.

    Attributes:
        call: The model.
        module: The module that holds its weights; an empty one if it is not known.
        has_module: True if the module is known.
        weights: Of every parameter its name, its `id` and whether it is trainable.
        probabilities: True if what the model returns is to be read as probabilities.

    Args:
        model: A module or a callable of two batches.
        module: The module behind the callable; searched if None.
        checkpoint: Called before each call of the model; it may raise.
    """

    def __init__(
        self,
        model: Callable[[Any, Any], Any],
        module: nn.Module | None = None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self.call = unwrapped(model)
        found = module if module is not None else find_module(self.call)
        self.has_module = found is not None
        self.module = nn.ModuleList() if found is None else found
        self.checkpoint = checkpoint
        self.probabilities = False
        self._scripted = _is_scripted(self.call, self.module)
        # A model that is in eval mode now will be put into train mode as a whole.
        self._training = [is_training(part) or not is_training(self.module) for part in self.module.modules()]
        named = named_weights(self.module)
        for name, tensor in [*named.items(), *self.module.named_buffers()]:
            if nn.parameter.is_lazy(tensor):
                raise ValueError(
                    f"model must have initialized parameters, got a lazy one, {name}: call model(x1, x2) once before "
                    "diagnose"
                )
        self.weights = {name: (id(weight), weight.requires_grad) for name, weight in named.items()}

    @property
    def trained_parts(self) -> list[nn.Module]:
        """The parts of the module that are in train mode when the user trains."""
        return [part for part, training in zip(self.module.modules(), self._training, strict=True) if training]

    @property
    def trained_norms(self) -> list[nn.Module]:
        """The batch norms among the trained parts."""
        return [part for part in self.trained_parts if isinstance(part, NORMS)]

    def parameters(self) -> dict[str, Tensor]:
        """Every floating-point parameter by its name, wanting gradients; only inside `sandbox`."""
        named = named_weights(self.module)
        return {name: weight.requires_grad_() for name, weight in named.items() if weight.is_floating_point()}

    def tensors(self) -> list[Tensor]:
        """All parameters and buffers."""
        return [*self.module.parameters(), *self.module.buffers()]

    @contextmanager
    def sandbox(self, *, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Let the module be trained and changed; restore it afterwards."""
        if not self._scripted:
            with sandbox(self.module, dtype=dtype):
                yield
            return
        before = self.call, self.module
        self.call = self.module = _copy_of_scripted(self.module, dtype)
        try:
            yield
        finally:
            self.call, self.module = before

    def redraw(self, scale: float, seed: int = 0, *, last: float | None = None, biases: float = 1) -> bool:
        """Move every weight, and every buffer but a norm's, by `scale` times its size, or by `scale` from zero.

        The last two, often those of the last layer, move by `last` times their size instead. Biases, and what else has
        one dimension, are multiplied with `biases` then. Weights of a class that cannot be changed, such as quantized
        ones, stay. Return True if any moved.
        """
        generator = torch.Generator().manual_seed(seed)
        modules = all_modules(self.module)
        buffers = [b for m in modules if not isinstance(m, NORMS) for b in m.buffers(recurse=False)]
        weights, moved = list(named_weights(self.module).values()), False
        for index, tensor in enumerate([*weights, *buffers]):
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                far = last if last is not None and len(weights) - 2 <= index < len(weights) else scale
                with suppress(*CANNOT):
                    size = tensor.square().mean().sqrt()
                    tensor.add_(noise.to(tensor) * torch.where(size > 0, size, 1.0) * far)
                    moved = True
                    if tensor.ndim < 2:
                        tensor.mul_(biases)
        return moved

    def score(
        self,
        x1: Batch,
        x2: Batch,
        *,
        trained: Sequence[nn.Module] = (),
        gradients: bool = False,
        recorder: FunctionRecorder | None = None,
        mode: AbstractContextManager[Any] | None = None,
    ) -> Output:
        """Call the model, without gradients unless they are wanted, and in eval mode but for the parts `trained`.

        A `mode` is active around the call, outside the recorder.
        """
        self.checkpoint()
        set_mode(self.module, False)
        for part in trained:
            part.training = True
        recorder = FunctionRecorder() if recorder is None else recorder
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user sees them when calling the model
            pairs = [combine(Tensor.clone, x) for x in (x1, x2)]  # a model may write into its inputs
            with mode or nullcontext(), recorder:
                output = self.call(*pairs)
            return read_output(output, count_items("x1", x1), recorder, self.probabilities)

    def score_all(
        self,
        left: Batch,
        right: Batch,
        *,
        of: str = "logits",
        recorder: FunctionRecorder | None = None,
        mode: AbstractContextManager[Any] | None = None,
    ) -> Tensor:
        """The logits of all pairs, or another field of `Output`, `(n, m)`, in eval mode and float64."""
        n, m = count_items("x1", left), count_items("x2", right)
        rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
        chunks = [slice(start, start + CHUNK) for start in range(0, n * m, CHUNK)]
        pairs = ((take(left, rows[at]), take(right, columns[at])) for at in chunks)
        scores = [getattr(self.score(*pair, recorder=recorder, mode=mode), of) for pair in pairs]
        return torch.cat(scores).detach().double().cpu().view(n, m)

    def magnitude(
        self,
        left: Batch,
        right: Batch,
        scores: Tensor,
        precision: torch.dtype,
        *,
        of: str = "logits",
        pairwise: bool = False,
    ) -> float:
        """The size of the numbers that scores are computed from, which may cancel in them.

        Rounding follows that size, not the size of the scores. It is the change of the scores when every weight and
        every result on the way changes a little at random, divided by the relative change. Numbers that have no effect
        on the scores do not count. At least the size of the scores themselves.

        Args:
            left: Left items.
            right: Right items.
            scores: What the model gives for them: for all pairs `(n, m)`, or one by one `(n,)`.
            precision: The coarsest floating-point type on the way; the numbers change by more than its rounding.
            of: The field of `Output` that `scores` holds.
            pairwise: True if row i of `left` goes with row i of `right`.
        """
        nudges = Nudges(max(NUDGE, 16 * torch.finfo(precision).eps))
        largest = _largest(scores)
        try:
            with self.sandbox(), torch.no_grad():
                for weight in [*named_weights(self.module).values(), *self.module.buffers()]:
                    with suppress(*CANNOT):
                        weight.copy_(nudges.nudged(weight))
                if pairwise:
                    moved = getattr(self.score(left, right, mode=nudges), of).detach().double()
                else:
                    moved = self.score_all(left, right, of=of, mode=nudges)
        except Exception:  # such as functions of a class that takes no part in this
            return largest
        changes = (moved.to(scores.device) - scores.double()).nan_to_num(0, 0, 0).abs()
        change = float(changes.flatten().quantile(QUARTILE)) / QUARTILE_OF_NORMAL  # a few pairs may divide by nearly 0
        return max(largest, change * math.sqrt(12) / nudges.size)  # the deviation of what is taken off is size / √12


def _largest(values: Tensor) -> float:
    return float(values.detach().double().nan_to_num(0, 0, 0).abs().max())


def _is_scripted(call: Callable[..., Any], module: nn.Module) -> bool:
    """True if the module is or holds a scripted one: its attributes live elsewhere, and cannot be exchanged."""
    if not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return False
    if call is not module:
        raise TypeError("model must be the module itself where it is scripted or traced, got a callable around it")
    return True


def _copy_of_scripted(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    with torch.no_grad():  # or the copies would be results of the originals
        twin = copy.deepcopy(module)
    if dtype is not None:
        twin.to(dtype)
    for original, parameter in zip(module.parameters(), twin.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
        parameter.grad = None
    return twin
