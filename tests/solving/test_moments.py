"""The moments of all pairs equal those that a look at every pair gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracles import ORACLES

import pairfuse as pf
from pairfuse.fusions import Bilinear, Concat, LowRankBilinear, Stack, Symmetrized
from pairfuse.solving import pair_moments, same_pairs
from pairfuse.solving.sums import Sums, pairs_within, whole_batches
from pairfuse.solving.terms import TermPlan
from tests.solving.brute_force import brute_force, worst_difference

LIMIT = 1e-9
VARIANTS = [
    (name, options)
    for name, oracle in ORACLES.items()
    for options in oracle.options
    if pf.make_fusion(name, 3, **options).fast_path
]
COMBINED = {
    "stack": lambda width: pf.make_fusion(["product", ["bilinear", "sum"], "cosine"], width),
    "symmetrized": lambda width: Symmetrized(Stack([Bilinear(width, 2), Concat(width)])),
    "one width twice": lambda width: pf.make_fusion(["product", "product", "mean"], width),
    "two widths": lambda width: LowRankBilinear(width, 3, in2_features=width + 1, rank=2),
    "two widths, stack": lambda width: Stack(
        [Bilinear(width, 2, in2_features=width + 1), Concat(width, in2_features=width + 1)]
    ),
}
MAKERS = {f"{name} {options}": (lambda w, n=name, o=options: pf.make_fusion(n, w, **o)) for name, options in VARIANTS}
MAKERS |= COMBINED
each_fusion = pytest.mark.parametrize("name", MAKERS)


def draw_case(make, seed):
    """A fusion with embeddings and labels: singletons, unlabeled items, labels of one side, large identities."""
    generator = torch.Generator().manual_seed(seed)
    width = int(torch.randint(1, 5, (), generator=generator))
    torch.manual_seed(seed)
    fusion = make(width)
    if hasattr(fusion, "center"):
        fusion.center.normal_()
        torch.nn.init.normal_(fusion.p)
        torch.nn.init.normal_(fusion.q)
    sets = []
    for features in (fusion.in_features, fusion.in2_features):
        items = int(torch.randint(1, 24, (), generator=generator))
        identities = int(torch.randint(1, 8, (), generator=generator))
        labels = torch.randint(-1, identities, (items,), generator=generator)
        dtype = (torch.float16, torch.float32, torch.float64)[int(torch.randint(3, (), generator=generator))]
        sets += [torch.randn(items, features, generator=generator).to(dtype), labels]
    scale = float(torch.rand((), generator=generator)) + 0.5
    both = bool(torch.rand((), generator=generator) < 0.4) or fusion.in_features != fusion.in2_features
    return fusion, sets if both else sets[:2], scale


def difference(make, seed):
    fusion, sets, scale = draw_case(make, seed)
    expected = brute_force(fusion, *sets, scale=scale)
    size = max(1.0, *(float(gram.abs().max()) for _, _, gram in expected)) ** 0.5
    return worst_difference(pair_moments(fusion, *sets, scale=scale), expected, size)


@pytest.fixture(params=["pair by pair", "by Gram matrices"])
def way(request, monkeypatch):
    """Same pairs are summed in both ways."""
    most = 64 if request.param == "pair by pair" else 0
    monkeypatch.setattr(same_pairs, "largest_small", lambda plan, halved: most)


@each_fusion
def test_moments_equal_brute_force(name, way):
    assert all(difference(MAKERS[name], seed) < LIMIT for seed in range(2))


@pytest.mark.slow
@each_fusion
def test_moments_equal_brute_force_in_thousands_of_cases(name, way):
    assert all(difference(MAKERS[name], seed) < LIMIT for seed in range(10, 130))


@pytest.mark.parametrize("name", [*(f"{name} {{}}" for name, options in VARIANTS if not options), *COMBINED])
def test_an_error_in_any_term_is_found(name, monkeypatch):
    """Each term of each side is multiplied by 1 + 1e-6."""
    original = TermPlan._side_terms
    counts = {}
    for side in ("left", "right"):
        for place in range(7):
            seen = []

            def planted(leaf, x, which, side=side, place=place, seen=seen):
                terms = original(leaf, x, which)
                if which == side and place < len(terms) and terms[place] is not None:
                    seen.append(place)
                    terms[place] = terms[place] * (1 + 1e-6) + 1e-6
                return terms

            with monkeypatch.context() as patch:
                patch.setattr(TermPlan, "_side_terms", staticmethod(planted))
                worst = max(difference(MAKERS[name], seed) for seed in (4, 7))
            if seen:
                counts[side, place] = worst
    assert counts
    assert all(worst > LIMIT for worst in counts.values()), counts


@pytest.mark.parametrize("sums", ["same", "own"])
def test_an_error_in_the_pairs_of_one_identity_is_found(sums, monkeypatch):
    """Without the self-pairs, or with another number of same pairs, the moments are wrong."""
    original = same_pairs.sums_of_set

    def planted(plan, side):
        found = list(original(plan, side))
        place = 2 if sums == "same" else 3
        found[place] = found[place].plus(Sums(*(1e-6 * x for x in found[place])))
        return found

    monkeypatch.setattr("pairfuse.solving.moments.sums_of_set", planted)
    torch.manual_seed(0)
    fusion, labels, items = pf.fusions.Product(2), torch.arange(20) % 4, torch.randn(20, 2)
    assert worst_difference(pair_moments(fusion, items, labels), brute_force(fusion, items, labels), 1.0) > LIMIT


@pytest.mark.parametrize("spec", ["product", "squared-diff", "quadratic", ["cosine", "concat"]])
def test_parts_with_whole_identities_add_up(spec):
    """Two parts give the moments of the whole, and the whole without one part gives those of the other."""
    labels, items = torch.randint(-1, 9, (60,)), torch.randn(60, 3)
    fusion = pf.make_fusion(spec, 3)
    whole = pair_moments(fusion, items, labels)
    first, second = (
        pair_moments(fusion, items[some], labels[some], plan=whole.plan) for some in (labels < 4, labels >= 4)
    )
    for found, expected in ((first + second, whole), (whole - first, second)):
        for name in ("all_pairs", "same_pairs", "different_pairs"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert ours.pairs == theirs.pairs
            torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(ours.gram, theirs.gram, rtol=1e-9, atol=1e-9)


def test_moments_of_different_plans_do_not_add_up():
    labels, items = torch.tensor([0, 0, 1]), torch.randn(3, 2)
    one, other = (pair_moments(pf.fusions.Product(2), items, labels) for _ in range(2))
    with pytest.raises(ValueError, match="the same plan"):
        one + other


def test_a_large_offset_costs_no_accuracy():
    """Differences of embeddings far from 0 are expanded around their mean."""
    labels, items = torch.arange(40) % 8, 1e6 + torch.randn(40, 3, dtype=torch.float64)
    fusion = pf.fusions.SquaredDiff(3)
    assert worst_difference(pair_moments(fusion, items, labels), brute_force(fusion, items, labels), 20.0) < LIMIT


def test_identities_larger_than_a_chunk(monkeypatch):
    """An identity is read in chunks, several together in batches that are padded."""
    monkeypatch.setattr(same_pairs, "CHUNK", 5)
    monkeypatch.setattr(same_pairs, "TILE", 40)
    labels = torch.tensor([0] * 17 + [1] * 2 + [2] * 9 + [3] + [4] * 12)[torch.randperm(41)]
    for most in (0, 3):
        monkeypatch.setattr(same_pairs, "largest_small", lambda plan, halved, most=most: most)
        for spec in ("product", ["squared-diff", "concat"]):
            fusion, items = pf.make_fusion(spec, 2), torch.randn(41, 2)
            found = worst_difference(pair_moments(fusion, items, labels), brute_force(fusion, items, labels), 5.0)
            assert found < LIMIT


def test_pairs_within_groups():
    """Each unordered pair of items of one group comes once."""
    i, j = pairs_within(torch.tensor([1, 3, 2]))
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(1, 2), (1, 3), (2, 3), (4, 5)]
    assert whole_batches(torch.tensor([2, 2, 5, 1]), 4) == [(0, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([pf.fusions.AbsDiff(2), torch.randn(3, 2), [0, 0, 1]], ValueError, "separable fusion, got AbsDiff"),
        ([pf.fusions.Product(2), torch.randn(3, 2), [0, 1]], ValueError, "2 labels and 3 items"),
        ([pf.fusions.Product(2), torch.randn(3, 4), [0, 0, 1]], ValueError, r"shape \(N, 2\), got"),
        ([pf.fusions.Product(2), torch.full((3, 2), torch.nan), [0, 0, 1]], ValueError, "finite u"),
        ([pf.fusions.Product(2), [[1.0, 2.0]], [0]], TypeError, "u to be a tensor"),
        ([pf.fusions.Product(2), torch.randn(3, 2), [0, 0, 1], torch.randn(3, 2)], TypeError, "together"),
        ([Concat(2, in2_features=3), torch.randn(3, 2), [0, 0, 1]], ValueError, "two sets of embeddings"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        pair_moments(*arguments)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo is tried on Linux only")
def test_processes_add_their_moments():
    command = [sys.executable, "-m", "tests.solving.moments_across_processes"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
