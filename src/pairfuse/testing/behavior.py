"""The laws of a well-behaved module: shapes, dtypes, rows, randomness, gradients, state and compilation."""

import copy
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from pairfuse.fusions import Fusion
from pairfuse.testing.case import FusionCase
from pairfuse.testing.law import LawError, close, fuse, randn, require
from pairfuse.testing.strategies import vectors


def declaration(case: FusionCase) -> None:
    """It can be built and called, and the facts that it declares are valid and consistent."""
    fusion = case.build()
    fusion.facts()
    fuse(fusion, randn(2, fusion.in_features), randn(2, fusion.in2_features, seed=1))


def shapes(case: FusionCase, draw: DrawFn) -> None:
    """(..., D) and (..., D2) give (..., F) for any leading dimensions, and each row equals that row fused alone."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    width2 = fusion.in2_features
    lead = draw(st.sampled_from([(width,), (1,), (width, min(width, 4)), (2, 3), (0,), (2, 1, 2), ()]))
    u, v = (_strided(randn(*lead, w, seed=seed)) for seed, w in enumerate((width, width2)))
    fused = fuse(fusion, u, v)
    require(
        fused.shape == (*lead, fusion.out_features),
        f"embeddings of shapes {tuple(u.shape)} and {tuple(v.shape)} give {tuple(fused.shape)}, but must "
        f"give {(*lead, fusion.out_features)}",
    )
    every = torch.ones(lead).nonzero().tolist()
    for index in every[:: max(1, len(every) // 20)]:  # all rows would take too long for a wide fusion
        row = tuple(index)
        alone = fuse(fusion, u[row], v[row])
        require(
            close(fused[row], alone),
            f"row {row} of embeddings of shape {tuple(u.shape)} is fused differently than alone",
            **{"u": u, "v": v, "f(u, v) of this row": fused[row], "alone": alone},
        )


def _strided(x: Tensor) -> Tensor:
    """Return the same values in memory that is not contiguous."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1) if x.ndim > 1 else x


def takes_one_width(case: FusionCase) -> str | None:
    """Return the reason why the law of `two_widths` does not apply, or None."""
    if case.fixed is not None:
        return "the fusion is already built"
    if not case.example.two_widths:
        return "two_widths is not declared"
    if not isinstance(case.given, (str, list, tuple, type)):
        try:
            case.build(3, in2_features=5)
        except TypeError as error:
            return "the function takes no in2_features" if "in2_features" in str(error) else None
        except Exception:
            return None  # the law reports it
    return None


def two_widths(case: FusionCase) -> None:
    """Sides of different widths can be fused, if `two_widths` is declared."""
    try:
        wider = case.build(3, in2_features=5)
    except (TypeError, ValueError) as error:
        raise LawError(f"it declares two_widths=True, but in2_features=5 raises {error}") from error
    require(fuse(wider, randn(2, 3), randn(2, 5)).shape == (2, wider.out_features), "its shape is wrong")


def refuses_what_does_not_fit(case: FusionCase) -> None:
    """Embeddings of a wrong width or with different leading dimensions raise a ValueError. Nothing is broadcast."""
    fusion = case.build()
    width, width2 = fusion.in_features, fusion.in2_features
    for u_shape, v_shape in [((2, width), (1, width2)), ((2, width + 1), (2, width2)), ((2, width), (2, width2 + 1))]:
        try:
            fusion(randn(*u_shape), randn(*v_shape))
        except ValueError:
            continue
        except Exception as error:
            raise LawError(f"u of shape {u_shape} and v of shape {v_shape} raise {error!r}") from error
        raise LawError(f"u of shape {u_shape} and v of shape {v_shape} are accepted: write fuse, not forward")


def dtype(case: FusionCase) -> None:
    """The features have the dtype of the embeddings and are accurate to its precision."""
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        fusion = case.build().to(kind)
        u, v = randn(4, fusion.in_features, dtype=kind), randn(4, fusion.in2_features, seed=1, dtype=kind)
        fused = fuse(fusion, u, v)
        require(fused.dtype == kind, f"{kind} goes in, {fused.dtype} comes out")
        wide = fuse(copy.deepcopy(fusion).double(), u.double(), v.double())
        error, largest = (fused.double() - wide).abs().max().item(), max(1.0, wide.abs().max().item())
        require(
            error <= 16 * torch.finfo(kind).eps * largest, f"in {kind} it is off by {error:.2g}", u=u, v=v, due=wide
        )


def leaves_inputs(case: FusionCase, draw: DrawFn) -> None:
    """Neither u nor v is changed."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    u, v = draw(vectors(2, width)), draw(vectors(2, fusion.in2_features))
    for lead, training in (((2,), False), ((2,), True), ((1, 2), False)):
        given = {"u": u.clone().view(*lead, -1), "v": v.clone().view(*lead, -1)}
        with suppress(Exception):  # other laws report errors
            fusion.train(training)(given["u"], given["v"])
        for name, kept in (("u", u), ("v", v)):
            after = given[name].view_as(kept)
            require(torch.equal(after, kept), f"it changes {name} in place", before=kept, after=after)


def deterministic(case: FusionCase) -> None:
    """In eval mode two calls agree for any global random state, and leave that state unchanged."""
    fusion = case.build()
    u, v = randn(4, fusion.in_features), randn(4, fusion.in2_features, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = fuse(fusion, u, v)
        require(torch.equal(torch.get_rng_state(), before), "it draws from the global random state in eval mode")
        torch.manual_seed(2)
        second = fuse(fusion, u, v)
    require(torch.equal(first, second), "two calls on the same embeddings differ", u=u[0], first=first, second=second)


def finite(case: FusionCase, draw: DrawFn) -> None:
    """Finite embeddings give finite features, also if they are zero or equal."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    u, v = draw(vectors(1, width)), draw(vectors(1, fusion.in2_features))
    fused = fuse(fusion, u, v)
    require(fused.isfinite().all(), "it gives NaN or infinity", **{"u": u, "v": v, "f(u, v)": fused})


def rows(case: FusionCase, draw: DrawFn) -> None:
    """The features of a pair do not depend on the other pairs of the batch."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    size = 3 if width == 2 else 2  # not the width: `shapes` tests that
    u, v = draw(vectors(size, width)), draw(vectors(size, fusion.in2_features))
    together = fuse(fusion, u, v)
    for row in range(size):
        alone = fuse(fusion, u[row : row + 1], v[row : row + 1])[0]
        require(
            close(together[row], alone),
            f"the features of row {row} change with the other rows",
            **{"u": u, "v": v, f"row {row} among all": together[row], f"row {row} alone": alone},
        )


def large_batches(case: FusionCase) -> None:
    """A pair has the same features in a batch of 100 as in a small batch."""
    fusion = case.build()
    u, v = randn(100, fusion.in_features), randn(100, fusion.in2_features, seed=1)
    many, few = fuse(fusion, u, v)[:3], fuse(fusion, u[:3], v[:3])
    require(close(many, few), "the features of the first 3 rows differ between a batch of 100 and of 3")


def gradients(case: FusionCase) -> None:
    """Gradients agree with finite differences, for both embeddings and every parameter."""
    fusion = case.build(3)
    u, v = randn(2, fusion.in_features).requires_grad_(), randn(2, fusion.in2_features, seed=1).requires_grad_()
    trained = [parameter for parameter in fusion.parameters() if parameter.requires_grad]
    many = sum(tensor.numel() for tensor in (u, v, *trained)) > 1000  # then only in random directions
    try:
        torch.autograd.gradcheck(lambda u, v, *_: fusion(u, v), (u, v, *trained), fast_mode=many)
    except RuntimeError as error:
        raise LawError(f"gradcheck: {str(error).strip()}", u=u, v=v) from error


def gradient_at_equal(case: FusionCase, draw: DrawFn) -> None:
    """At u = v every gradient is finite."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    x = draw(vectors(width))
    u, v = x.clone().requires_grad_(), x.clone().requires_grad_()
    fusion(u, v).sum().backward()
    named = {"u": u, "v": v, **dict(fusion.named_parameters())}
    for name, tensor in named.items():
        finite = tensor.grad is None or tensor.grad.isfinite().all()
        require(finite, f"at u = v the gradient of {name} is not finite", **{"u = v": x, "gradient": tensor.grad})


def trains(case: FusionCase) -> None:
    """Both embeddings and every parameter that requires a gradient get a nonzero one within three steps."""
    fusion = case.build(fresh=True)
    u = randn(8, fusion.in_features).requires_grad_()
    v = randn(8, fusion.in2_features, seed=1).requires_grad_()
    waiting = {"u": u, "v": v, **{name: p for name, p in fusion.named_parameters() if p.requires_grad}}
    optimizer = torch.optim.SGD(list(waiting.values()), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        fusion(u, v).add(1).square().sum().backward()
        waiting = {name: t for name, t in waiting.items() if t.grad is None or not t.grad.any()}
        optimizer.step()
    zeros = [name for name, parameter in fusion.named_parameters() if not parameter.any()]
    hint = f" (all zero: {', '.join(zeros)}; two factors that are both zero never move)" if zeros else ""
    require(not waiting, f"after 3 steps there is still no gradient for {', '.join(waiting)}{hint}")


def state(case: FusionCase) -> None:
    """Every tensor that it holds is a parameter or a buffer: state_dict, .to() and copies include it."""
    fusion, other = case.build(), case.build(seed=1)
    u, v = randn(3, fusion.in_features), randn(3, fusion.in2_features, seed=1)
    due = fuse(fusion, u, v)  # before the search, since the first call may create tensors
    for path, module in fusion.named_modules():
        for name in _loose_tensors(module):
            raise LawError(
                f"{'.'.join(filter(None, [path, name]))} is a plain attribute: state_dict(), .to() and optimizers do "
                "not see it. Assign an nn.Parameter or nn.Module, use nn.ParameterList, or call register_buffer"
            )
    buffer = io.BytesIO()
    torch.save(fusion.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    twins: dict[str, Callable[[], Fusion]] = {
        "loaded from its state_dict": lambda: other,
        "copied by copy.deepcopy": lambda: copy.deepcopy(fusion),
        "pickled and unpickled": lambda: pickle.loads(pickle.dumps(fusion)),
    }
    parametrized = any(is_parametrized(module) for module in fusion.modules())  # torch cannot pickle these
    if parametrized or not _can_be_found(type(fusion)):
        del twins["pickled and unpickled"]
    for how, make in twins.items():
        try:
            fused = fuse(make(), u, v)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise LawError(f"a fusion cannot be {how}: {error}") from error
        require(torch.equal(fused, due), f"a fusion {how} computes something else", u=u[0], v=v[0])


def compiles(case: FusionCase) -> None:
    """torch.compile needs no graph break, and torch.export takes any batch size."""
    fusion = case.build()
    u, v = randn(3, fusion.in_features), randn(3, fusion.in2_features, seed=1)
    due = fuse(fusion, u, v)
    try:
        compiled = torch.compile(_anew(fusion), fullgraph=True, backend="aot_eager")(u, v)
        batch = torch.export.Dim("batch")
        exported = torch.export.export(fusion, (u, v), dynamic_shapes={"u": {0: batch}, "v": {0: batch}})
        shorter = exported.module()(u[:2], v[:2])
    except Exception as error:
        raise LawError(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    require(close(compiled, due), "compiled it computes something else", u=u, v=v)
    require(close(shorter, due[:2]), "exported it computes something else", u=u[:2], v=v[:2])


def device(case: FusionCase) -> None:
    """Moved to another device (here torch's meta device), it computes there."""
    fusion = case.build().to("meta")
    u, v = randn(3, fusion.in_features).to("meta"), randn(3, fusion.in2_features).to("meta")
    where = fuse(fusion, u, v).device.type
    require(where == "meta", f"inputs on the meta device give features on {where}")


def _anew(fusion: Fusion) -> Callable[[Tensor, Tensor], Tensor]:
    """Wrap the fusion in a new code object: torch.compile counts and caches compilations by code object."""

    def call(u: Tensor, v: Tensor) -> Tensor:
        return fusion(u, v)  # type: ignore[no-any-return]

    return FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def _loose_tensors(module: nn.Module) -> Iterator[str]:
    """Yield the names of attributes that hide tensors or modules from torch."""
    of_class = [item for cls in type(module).__mro__ for item in vars(cls).items()]
    for name, value in [*vars(module).items(), *of_class]:
        if name not in ("_parameters", "_buffers", "_modules") and _hides(value):
            yield name


def _hides(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_hides(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_hides(item) for item in value)
    return isinstance(value, (Tensor, nn.Module))


def _can_be_found(cls: type[Fusion]) -> bool:
    """True if pickle finds the class by its name. A class defined inside a function is not found."""
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls
