"""The laws about the facts that a fusion declares, such as symmetry and additivity, and when they apply."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from pairfuse.fusions import Fusion
from pairfuse.fusions.additive import Sum
from pairfuse.fusions.separable import Separable
from pairfuse.fusions.stack import Stack
from pairfuse.items.batches import expand_pairs
from pairfuse.scoring import Scorer
from pairfuse.testing.case import FusionCase
from pairfuse.testing.law import LawError, close, fuse, randn, require
from pairfuse.testing.strategies import embedding_pairs, vectors
from pairfuse.xnor import xnor_margin


def two_different_widths(case: FusionCase) -> str | None:
    """Return the reason why a law about the pair (a, a) does not apply, or None."""
    return None if case.example.in_features == case.example.in2_features else "the two sides differ in width"


def symmetry_cannot_show(case: FusionCase) -> str | None:
    """Return the reason why the law of symmetry does not apply, or None."""
    return _one_coordinate(case, "symmetry", "none")


def xnor_cannot_show(case: FusionCase) -> str | None:
    """Return the reason why the law of `xnor` does not apply, or None."""
    return two_different_widths(case) or _one_coordinate(case, "xnor", "generic")


def no_xnor_with_sum(case: FusionCase) -> str | None:
    """Return the reason why the law of `xnor_with_sum` does not apply, or None."""
    if case.example.xnor_with_sum is None:
        return "xnor_with_sum is not declared"
    return two_different_widths(case) or _one_coordinate(case, "xnor_with_sum", "generic")


def no_spans_sum(case: FusionCase) -> str | None:
    """Return the reason why the law of `spans_sum` does not apply, or None."""
    return two_different_widths(case) if case.example.spans_sum else "spans_sum is not declared"


def no_feature_means(case: FusionCase) -> str | None:
    """Return the reason why the law of `feature_means` does not apply, or None."""
    declared = any(same or different for same, different in case.example.all_feature_means())
    return two_different_widths(case) if declared else "feature_means is not declared"


def no_terms(case: FusionCase) -> str | None:
    """Return the reason why the law of `left` and `right` does not apply, or None."""
    separable = isinstance(case.example, Separable) and case.example.fast_path
    return None if separable else "it has no left and right of its own"


def no_translation(case: FusionCase) -> str | None:
    """Return the reason why the law of `translation_invariant` does not apply, or None."""
    return None if case.example.translation_invariant else "translation_invariant is not declared"


def _one_coordinate(case: FusionCase, fact: str, declared: str) -> str | None:
    """Return a reason if there is one coordinate only: some declarations cannot be tested then."""
    hidden = case.example.in_features == 1 and getattr(case.example, fact) == declared
    return "one coordinate is not enough to test it" if hidden else None


def symmetry(case: FusionCase, draw: DrawFn) -> None:
    """Swapping u and v changes nothing (symmetric), only the sign (antisymmetric), or more (none)."""
    fusion = case.build()
    declared, width = fusion.symmetry, fusion.in_features
    if width != fusion.in2_features:
        require(declared == "none", f"it declares symmetry={declared!r}, but its sides differ in width")
        return
    if declared == "none":
        u, v = randn(50, width), randn(50, width, seed=1)
        one, other = fuse(fusion, u, v), fuse(fusion, v, u)
        for sign, word in ((1, "symmetric"), (-1, "antisymmetric")):
            require(not close(one, sign * other), f"it declares symmetry='none', but on 50 pairs it is {word}")
        return
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    u, v = draw(vectors(width)), draw(vectors(width))
    one, other = fuse(fusion, u, v), fuse(fusion, v, u)
    sign, right = (1, "f(v, u)") if declared == "symmetric" else (-1, "−f(v, u)")
    require(
        close(one, sign * other),
        f"it declares symmetry={declared!r}, but f(u, v) is not {right}",
        **{"u": u, "v": v, "f(u, v)": one, "f(v, u)": other},
    )


def additivity(case: FusionCase, draw: DrawFn) -> None:
    """f(u1, v1) + f(u2, v2) = f(u1, v2) + f(u2, v1) for all embeddings iff it is additive."""
    fusion = case.build()
    if not fusion.additive:
        u, v = randn(2, 50, fusion.in_features), randn(2, 50, fusion.in2_features, seed=1)
        straight, crossed = _both_sums(fusion, u, v)
        require(not close(straight, crossed), "it declares additive=False, but on 50 quartets it is a sum g(u) + h(v)")
        return
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    u, v = draw(vectors(2, width)), draw(vectors(2, fusion.in2_features))
    straight, crossed = _both_sums(fusion, u, v)
    require(
        close(straight, crossed),
        "it declares additive=True, but is not a sum g(u) + h(v)",
        **{"u1, u2": u, "v1, v2": v, "f(u1, v1) + f(u2, v2)": straight, "f(u1, v2) + f(u2, v1)": crossed},
    )


def _both_sums(fusion: Fusion, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return fuse(fusion, u[0], v[0]) + fuse(fusion, u[1], v[1]), fuse(fusion, u[0], v[1]) + fuse(fusion, u[1], v[0])


def xnor(case: FusionCase, draw: DrawFn) -> None:
    """One linear layer separates same from different for no a ≠ b, for most, or for all, as `xnor` declares."""
    _check_xnor(case, draw, "xnor")


def xnor_with_sum(case: FusionCase, draw: DrawFn) -> None:
    """The same for a layer that also reads u + v, as `xnor_with_sum` declares."""
    _check_xnor(case, draw, "xnor_with_sum")


def spans_sum(case: FusionCase) -> None:
    """A linear layer on the features can compute u + v, if `spans_sum` is declared."""
    fusion = case.build()
    rows = 10 * fusion.out_features
    u, v = randn(rows, fusion.in_features), randn(rows, fusion.in_features, seed=1)
    features = torch.cat([fuse(fusion, u, v), torch.ones(rows, 1, dtype=torch.float64)], 1)
    layer = torch.linalg.lstsq(features, u + v, driver="gelsd").solution
    error = (features @ layer - (u + v)).abs().max().item()
    require(error < 1e-6, "it declares spans_sum=True, but no linear layer computes u + v", least_error=error)


def feature_means(case: FusionCase) -> None:
    """The means over same and over different standard normal pairs are the declared `feature_means`."""
    fusion = case.build(16, fresh=True)
    width, declared = fusion.in_features, torch.tensor(fusion.all_feature_means(), dtype=torch.float64)  # (F, 2)
    told = declared.any(1)
    draws = 30 if any(True for _ in fusion.parameters()) else 1  # its weights are random too
    fusions = [fusion, *(case.build(16, seed=seed, fresh=True) for seed in range(1, draws))]
    count = max(1000, 320_000 // (width * draws))
    u, v = randn(count, width), randn(count, width, seed=1)
    for column, right, word in ((0, u, "same"), (1, v, "different")):
        mean = torch.stack([fuse(f, u, right).mean(0) for f in fusions]).mean(0)
        off = ((mean - declared[:, column]).abs() * told).argmax()
        require(
            (mean - declared[:, column])[off].abs() < 0.3,
            f"its feature_means declare a mean of {declared[off, column]:.2f} for feature {off} over {word} pairs",
            found=mean[off],
        )


def translation(case: FusionCase, draw: DrawFn) -> None:
    """Adding the same vector to u and v changes nothing, if `translation_invariant` is declared."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    u, v, c = draw(vectors(2, width)), draw(vectors(2, width)), draw(vectors(width))
    here, there = fuse(fusion, u, v), fuse(fusion, u + c, v + c)
    words = "it declares translation_invariant=True, but f(u + c, v + c) is not f(u, v)"
    require(close(here, there), words, **{"u": u, "v": v, "c": c, "f(u, v)": here, "f(u + c, v + c)": there})


def terms(case: FusionCase, draw: DrawFn) -> None:
    """The products of `left` and `right` add up to `fuse`: values, gradients and dtypes, for any leading dimensions."""
    fusion: Any = case.build(draw(st.integers(*case.width_range)))
    u, v = draw(vectors(2, fusion.in_features)), draw(vectors(2, fusion.in2_features))
    for lead in ((2,), (1, 2)):
        pair = u.view(*lead, -1), v.view(*lead, -1)
        due, found = fuse(fusion, *pair), Separable.fuse(fusion, *pair)
        words = "the products of its left and right do not add up to fuse"
        require(close(found, due), words, **{"u": u, "v": v, "Σ left ∘ right": found, "fuse": due})
    # Gradients at random embeddings, since at ties and zeros they depend on conventions.
    pair = randn(2, fusion.in_features).requires_grad_(), randn(2, fusion.in2_features, seed=1).requires_grad_()
    functions = fusion, partial(Separable.fuse, fusion)
    gradients = [torch.autograd.grad(f(*pair).square().sum(), pair) for f in functions]
    for name, y, x in zip("uv", *gradients, strict=True):
        require(close(x, y), f"its left and right give a different gradient of {name} than fuse", gradient=x, due=y)
    for kind in (torch.float32, torch.bfloat16):
        narrow = copy.deepcopy(fusion).to(kind)
        dtypes = {x.dtype for x in (*narrow.left(u.to(kind)), *narrow.right(v.to(kind))) if x is not None}
        require(dtypes <= {kind}, f"its terms of {kind} embeddings have dtypes {dtypes}")


def all_pairs(case: FusionCase, draw: DrawFn) -> None:
    """The scorer computes the same as a linear layer on every pair, with gradients and without."""
    width = draw(st.integers(*case.width_range))
    fusion = case.build(width)
    n, m, k = (draw(st.integers(1, 3)) for _ in range(3))
    u, v = draw(vectors(n, width)), draw(vectors(m, fusion.in2_features))
    head = nn.Linear(fusion.out_features, k, bias=False, dtype=torch.float64)
    head.weight = nn.Parameter(randn(k, fusion.out_features, seed=2))
    due = fuse(fusion, *expand_pairs(u, v)) @ head.weight.mT
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            scores = Scorer(fusion, head, u, v).matrix()
        words = "scores of all pairs differ from those of each pair"
        require(close(scores, due), words, u=u, v=v, scores=scores, due=due)


def _check_xnor(case: FusionCase, draw: DrawFn, fact: str) -> None:
    """Test a declared XNOR fact by the exact margin, and by training if the fusion has weights."""
    fusion = case.build()
    declared, trains = getattr(fusion, fact), any(True for _ in fusion.parameters())
    claim = f"it declares {fact}={declared!r}, but"
    if declared == "generic":
        free = [(randn(fusion.in_features, seed=seed), randn(fusion.in_features, seed=-seed)) for seed in range(1, 21)]
        beside = _beside(fusion, fact)
        learns = any(margin > 0 for margin in _margins(beside, free)) or any(_learns(beside, a, b) for a, b in free[:3])
        require(
            learns, f"{claim} on random pairs no linear layer tells same from different", a=free[0][0], b=free[0][1]
        )
        return
    if declared == "always" and trains:  # a few pairs, since training takes time
        pairs = [draw(st.sampled_from(_special_pairs(fusion.in_features if case.fixed is not None else 2)))]
    else:
        drawn = draw(embedding_pairs(*case.width_range))
        pairs = [drawn, *_special_pairs(len(drawn[0]))]
    beside = _beside(case.build(len(pairs[0][0])), fact)
    for (a, b), margin in zip(pairs, _margins(beside, pairs), strict=True):
        if declared == "never":
            require(margin == 0, f"{claim} a linear layer tells same from different", a=a, b=b, margin=margin)
        else:
            learns = margin > 0 or _learns(beside, a, b)
            require(learns, f"{claim} no linear layer tells same from different", a=a, b=b)


def _beside(fusion: Fusion, fact: str) -> Fusion:
    return fusion if fact == "xnor" else Stack([Sum(fusion.in_features), fusion])


def _special_pairs(width: int) -> list[tuple[Tensor, Tensor]]:
    """Pairs in special positions: one of them zero, collinear, opposite, free, permuted."""
    one, ramp = torch.ones(width, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    pairs = [(0 * one, one), (one, 2 * one), (-one, one), (one, ramp - 1), (ramp, ramp.flip(0))]
    return [(a, b) for a, b in pairs if not torch.equal(a, b)]


def _margins(fusion: Fusion, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    a, b = (torch.stack(side) for side in zip(*pairs, strict=True))
    try:
        margins: list[float] = xnor_margin(fusion, a, b).tolist()
    except Exception as error:
        raise LawError(f"it raises {type(error).__name__}: {error}", a=a, b=b) from error
    return margins


def _learns(fusion: Fusion, a: Tensor, b: Tensor) -> bool:
    """True if training the fusion with a linear head makes the pairs of a and b separable."""
    parameters = [parameter for parameter in fusion.parameters() if parameter.requires_grad]
    if not parameters:
        return False
    u, v = torch.stack([a, b, a, b]), torch.stack([a, b, b, a])
    target = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    for seed in range(5):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            for parameter in parameters:
                nn.init.normal_(parameter)
            head = nn.Linear(fusion.out_features, 1, dtype=torch.float64)
            optimizer = torch.optim.Adam([*parameters, *head.parameters()], lr=0.05)
            for step in range(300):
                loss = nn.functional.binary_cross_entropy_with_logits(head(fusion(u, v)).squeeze(-1), target)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                if step % 20 == 19 and _margins(fusion, [(a, b)])[0] > 0:
                    return True
    return False
