"""The laws of what a fusion declares: symmetry, additivity, XNOR, feature_means, factors."""

import copy

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from pairfuse.fusions import Fusion
from pairfuse.fusions.additive import Sum
from pairfuse.fusions.factors import Factors, score_pairs
from pairfuse.fusions.stack import Stack
from pairfuse.items.batches import expand_pairs
from pairfuse.testing.strategies import embedding_pairs, vectors
from pairfuse.testing.subject import DoesNotApply, LawError, Subject, close, fuse, randn, require
from pairfuse.xnor import xnor_margin


def symmetry(subject: Subject, draw: DrawFn) -> None:
    """Swapping u and v changes nothing (symmetric), only the sign (antisymmetric), or more (none)."""
    fusion = subject.build()
    declared, width = fusion.symmetry, fusion.in_features
    if width != fusion.in2_features:
        require(declared == "none", f"it declares symmetry={declared!r}, but its sides differ in width")
        raise DoesNotApply("the two sides differ in width")
    if declared == "none":
        _need_two_coordinates(width)
        u, v = randn(50, width), randn(50, width, seed=1)
        one, other = fuse(fusion, u, v), fuse(fusion, v, u)
        for sign, word in ((1, "symmetric"), (-1, "antisymmetric")):
            require(not close(one, sign * other), f"it declares symmetry='none', but on 50 pairs it is {word}")
        return
    width = draw(st.integers(*subject.width_range))
    fusion = subject.build(width)
    u, v = draw(vectors(width)), draw(vectors(width))
    one, other = fuse(fusion, u, v), fuse(fusion, v, u)
    sign, right = (1, "f(v, u)") if declared == "symmetric" else (-1, "−f(v, u)")
    require(
        close(one, sign * other),
        f"it declares symmetry={declared!r}, but f(u, v) is not {right}",
        **{"u": u, "v": v, "f(u, v)": one, "f(v, u)": other},
    )


def additivity(subject: Subject, draw: DrawFn) -> None:
    """f(u1, v1) + f(u2, v2) = f(u1, v2) + f(u2, v1) for all embeddings if it is additive, else not for some."""
    fusion = subject.build()
    if not fusion.additive:
        u, v = randn(2, 50, fusion.in_features), randn(2, 50, fusion.in2_features, seed=1)
        straight, crossed = _both_sums(fusion, u, v)
        require(not close(straight, crossed), "it declares additive=False, but on 50 quartets it is a sum g(u) + h(v)")
        return
    width = draw(st.integers(*subject.width_range))
    fusion = subject.build(width)
    u, v = draw(vectors(2, width)), draw(vectors(2, fusion.in2_features))
    straight, crossed = _both_sums(fusion, u, v)
    require(
        close(straight, crossed),
        "it declares additive=True, but is no sum g(u) + h(v)",
        **{"u1, u2": u, "v1, v2": v, "f(u1, v1) + f(u2, v2)": straight, "f(u1, v2) + f(u2, v1)": crossed},
    )


def _both_sums(fusion: Fusion, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return fuse(fusion, u[0], v[0]) + fuse(fusion, u[1], v[1]), fuse(fusion, u[0], v[1]) + fuse(fusion, u[1], v[0])


def xnor(subject: Subject, draw: DrawFn) -> None:
    """One linear layer tells same from different for no a ≠ b, for most, or for all, as `xnor` says."""
    _check_xnor(subject, draw, "xnor")


def xnor_with_sum(subject: Subject, draw: DrawFn) -> None:
    """The same beside u + v, as `xnor_with_sum` says."""
    if subject.build().xnor_with_sum is None:
        raise DoesNotApply("xnor_with_sum is not declared")
    _check_xnor(subject, draw, "xnor_with_sum")


def spans_sum(subject: Subject) -> None:
    """A linear layer on the features computes u + v, if `spans_sum` is declared."""
    fusion = subject.build_tied()
    if not fusion.spans_sum:
        raise DoesNotApply("spans_sum is not declared")
    rows = 10 * fusion.out_features
    u, v = randn(rows, fusion.in_features), randn(rows, fusion.in_features, seed=1)
    features = torch.cat([fuse(fusion, u, v), torch.ones(rows, 1, dtype=torch.float64)], 1)
    layer = torch.linalg.lstsq(features, u + v, driver="gelsd").solution
    error = (features @ layer - (u + v)).abs().max().item()
    require(error < 1e-6, "it declares spans_sum=True, but no linear layer computes u + v", least_error=error)


def feature_means(subject: Subject) -> None:
    """The means over same and over different standard normal pairs are those that `feature_means` declares."""
    fusion = subject.build_tied(16, fresh=True)
    width, declared = fusion.in_features, torch.tensor(fusion.all_feature_means(), dtype=torch.float64)  # (F, 2)
    told = declared.any(1)
    if not told.any():
        raise DoesNotApply("no feature_means is declared")
    draws = 30 if any(True for _ in fusion.parameters()) else 1  # its weights are random too
    fusions = [fusion, *(subject.build(16, seed=seed, fresh=True) for seed in range(1, draws))]
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


def _with_factors(subject: Subject, draw: DrawFn) -> tuple[Fusion, Tensor, Tensor, Tensor]:
    """A fusion that has factors, embeddings of either side, and the weight of a linear layer."""
    fusion = subject.build(draw(st.integers(*subject.width_range)))
    if not fusion.fast_path:
        raise DoesNotApply("it has no factors")
    n, m, k = (draw(st.integers(1, 3)) for _ in range(3))
    u, v = draw(vectors(n, fusion.in_features)), draw(vectors(m, fusion.in2_features))
    return fusion, u, v, randn(k, fusion.out_features, seed=2)


def factors(subject: Subject, draw: DrawFn) -> None:
    """`left @ right.mT` of its factors is what a linear layer says of every pair, in values and gradients."""
    fusion, u, v, weight = _with_factors(subject, draw)
    n, m, k = len(u), len(v), len(weight)
    expected = fuse(fusion, *expand_pairs(u, v)) @ weight.mT  # (n, m, k)
    left, right, row, column = given = Factors(*fusion.factors(u, v, weight))
    require(
        left.shape[:2] == (k, n) and right.shape[1] == m and right.shape[0] in (1, k),
        f"its factors have shapes {tuple(left.shape)} and {tuple(right.shape)}, where ({k}, {n}, R) and "
        f"({k} or 1, {m}, R) are due",
    )
    for side, sums, count in (("row", row, n), ("column", column, m)):
        require(
            sums is None or sums.shape == (count, k),
            f"the {side} of its factors is not of shape ({count}, {k})",
            x=sums,
        )
    scores = score_pairs(given)
    shown = {"u": u, "v": v, "scores": scores, "due": expected}
    require(close(scores, expected), "its factors do not give the linear layer's scores", **shown)
    if n > 1 and m > 1:  # gradients of random embeddings: at ties and zeros they are a matter of convention
        pairs = randn(n, fusion.in_features).requires_grad_(), randn(m, fusion.in2_features, seed=1).requires_grad_()
        slow = fuse(fusion, *expand_pairs(*pairs)) @ weight.mT
        quick = score_pairs(Factors(*fusion.factors(*pairs, weight)))
        towards = randn(n, m, k, seed=3)
        due = torch.autograd.grad((slow * towards).sum(), pairs)
        found = torch.autograd.grad((quick * towards).sum(), pairs, allow_unused=True)
        for name, x, y in zip("uv", found, due, strict=True):
            require(x is not None and close(x, y), f"its factors give another gradient of {name}", gradient=x, due=y)
    for kind in (torch.float32, torch.bfloat16):
        narrow = copy.deepcopy(fusion).to(kind)
        dtypes = {x.dtype for x in narrow.factors(u.to(kind), v.to(kind), weight.to(kind)) if x is not None}
        require(dtypes == {kind}, f"its factors of {kind} are of {dtypes}")


def factors_apart(subject: Subject, draw: DrawFn) -> None:
    """Its factors of the left items need no right items, and the other way round: an index keeps them apart."""
    fusion, u, v, weight = _with_factors(subject, draw)
    together = Factors(*fusion.factors(u, v, weight))
    of_u, of_v = Factors(*fusion.factors(u, v[:0], weight)), Factors(*fusion.factors(u[:0], v, weight))
    alone = Factors(of_u.left, of_v.right, of_u.row, of_v.column)
    for name, x, y in zip(Factors._fields, alone, together, strict=True):
        same = x is y if x is None or y is None else close(x, y)
        require(same, f"the {name} of its factors is another without the other side", u=u, v=v, alone=x, together=y)


def score_all(subject: Subject, draw: DrawFn) -> None:
    """`score_all` is what a linear layer says of every pair, with gradients and without."""
    width = draw(st.integers(*subject.width_range))
    fusion = subject.build(width)
    n, m, k = (draw(st.integers(1, 3)) for _ in range(3))
    u, v = draw(vectors(n, width)), draw(vectors(m, fusion.in2_features))
    weight = randn(k, fusion.out_features, seed=2)
    due = fuse(fusion, *expand_pairs(u, v)) @ weight.mT
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            scores = fusion.score_all(u.clone().requires_grad_(gradients), v, weight)
        words = "it gives other scores of all pairs than pair by pair"
        require(close(scores, due), words, u=u, v=v, scores=scores, due=due)


def _check_xnor(subject: Subject, draw: DrawFn, fact: str) -> None:
    """Whether a fact is as declared: by the exact margin, and by training where there are weights."""
    fusion = subject.build_tied()
    declared, trains = getattr(fusion, fact), any(True for _ in fusion.parameters())
    claim = f"it declares {fact}={declared!r}, but"
    if declared == "generic":
        _need_two_coordinates(fusion.in_features)
        free = [(randn(fusion.in_features, seed=seed), randn(fusion.in_features, seed=-seed)) for seed in range(1, 21)]
        beside = _beside(fusion, fact)
        learns = any(_margin(beside, a, b) > 0 for a, b in free) or any(_learns(beside, a, b) for a, b in free[:3])
        require(
            learns, f"{claim} on random pairs no linear layer tells same from different", a=free[0][0], b=free[0][1]
        )
        return
    if declared == "always" and trains:  # a few, since training takes its time
        a, b = draw(st.sampled_from(_special_pairs(fusion.in_features if subject.fixed is not None else 2)))
    else:
        a, b = draw(embedding_pairs(*subject.width_range))
    beside = _beside(subject.build(len(a)), fact)
    margin = _margin(beside, a, b)
    if declared == "never":
        require(margin == 0, f"{claim} a linear layer tells same from different", a=a, b=b, margin=margin)
    else:
        learns = margin > 0 or _learns(beside, a, b)
        require(learns, f"{claim} no linear layer tells same from different", a=a, b=b)


def _beside(fusion: Fusion, fact: str) -> Fusion:
    return fusion if fact == "xnor" else Stack([Sum(fusion.in_features), fusion])


def _special_pairs(width: int) -> list[tuple[Tensor, Tensor]]:
    """Collinear, one of them zero, opposite, permuted, free."""
    one, ramp = torch.ones(width, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    pairs = [(0 * one, one), (one, 2 * one), (-one, one), (one, ramp - 1), (ramp, ramp.flip(0))]
    return [(a, b) for a, b in pairs if not torch.equal(a, b)]


def _need_two_coordinates(width: int) -> None:
    if width == 1:
        raise DoesNotApply("one coordinate is too few to show it")


def _margin(fusion: Fusion, a: Tensor, b: Tensor) -> float:
    try:
        return xnor_margin(fusion, a, b).item()
    except Exception as error:
        raise LawError(f"it raises {type(error).__name__}: {error}", a=a, b=b) from error


def _learns(fusion: Fusion, a: Tensor, b: Tensor) -> bool:
    """Whether training the parameters of a fusion, with a linear head, makes the pairs of a and b separable."""
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
                if step % 20 == 19 and _margin(fusion, a, b) > 0:
                    return True
    return False
