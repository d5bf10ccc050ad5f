"""The laws that every registered fusion keeps, each exactly as the fusion declares it."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import ORACLES, exact
from strategies import embedding_pairs, vectors

import pairfuse as pf

NAMES = pf.list_fusions()
VARIANTS = [(name, options) for name in NAMES for options in (ORACLES[name].options if name in ORACLES else [{}])]
each_name = pytest.mark.parametrize("name", NAMES)
each_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{name} {options}" if options else name for name, options in VARIANTS]
)


def build(name: str, width: int, options: dict, dtype: torch.dtype = torch.float64, seed: int = 0) -> pf.Fusion:
    torch.manual_seed(seed)  # so that a failing example of Hypothesis fails again
    fusion = pf.make_fusion(name, width, **options).to(dtype)
    if getattr(fusion, "bias", None) is not None:
        torch.nn.init.normal_(fusion.bias)  # a bias of 0 would hide that it is missing
    return fusion


@each_name
def test_has_an_oracle(name):
    """Completeness is checked, not remembered."""
    assert name in ORACLES, f"write an oracle for {name!r} in tests/oracles.py"


@each_variant
def test_width_and_leading_dimensions(name, options):
    """(..., D) and (..., D) give (..., F) under any leading dimensions, empty ones and none among them."""
    fusion = build(name, 5, options)
    assert fusion.out_features == options.get("out_features", ORACLES[name].out_features(5))
    rows = torch.randn(6, 5).double(), torch.randn(6, 5).double()
    flat = fusion(*rows)
    for lead in [(6,), (2, 3), (1, 6, 1), (2, 1, 3)]:
        fused = fusion(*(x.view(*lead, 5) for x in rows))
        assert fused.shape == (*lead, fusion.out_features)
        torch.testing.assert_close(fused.view(6, -1), flat)
    assert fusion(*(x[0] for x in rows)).shape == (fusion.out_features,)
    assert fusion(*(x[:0] for x in rows)).shape == (0, fusion.out_features)


@each_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_the_dtype(name, options, dtype):
    """What goes in as a dtype comes out as this dtype, and right to its precision."""
    u, v = torch.randn(4, 3).to(dtype), torch.randn(4, 3).to(dtype)
    fusion = build(name, 3, options, dtype).requires_grad_(False)
    fused = fusion(u, v)
    assert fused.dtype == dtype
    wide = copy.deepcopy(fusion).double()(u.double(), v.double())
    torch.testing.assert_close(fused.double(), wide, rtol=0, atol=16 * torch.finfo(dtype).eps * wide.abs().max())


@each_variant
def test_gradients(name, options):
    """Analytic gradients agree with finite differences, for both embeddings and every parameter."""
    fusion = build(name, 3, options)
    u, v = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.autograd.gradcheck(lambda u, v, *_: fusion(u, v), (u, v, *fusion.parameters()))


@each_variant
@given(data=st.data())
def test_values(name, options, data):
    """The values are those of the formula, computed without torch in exact fractions."""
    width = data.draw(st.integers(1, 4))
    u, v = data.draw(vectors(width)), data.draw(vectors(width))
    fusion = build(name, width, options)
    expected = [float(value) for value in ORACLES[name].values(fusion, exact(u), exact(v))]
    torch.testing.assert_close(fusion(u, v), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-10)


@each_variant
def test_gradient_at_identical_embeddings(name, options):
    """For u = v every gradient is finite: no square root of zero."""
    fusion = build(name, 4, options)
    u = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    fusion(u, u).sum().backward()
    v = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    fusion(v, v).sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (u, v, *fusion.parameters()))


@each_variant
def test_rows_are_independent(name, options):
    """Changing one pair changes that pair's features and no other's."""
    fusion = build(name, 4, options)
    u, v = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    before, other = fusion(u, v), u.clone()
    other[2] += 1
    after = fusion(other, v)
    assert not torch.equal(after[2], before[2])
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(after[kept], before[kept], rtol=0, atol=0)


@each_variant
def test_leaves_its_inputs_and_the_random_state(name, options):
    """Neither the embeddings nor torch's random state are changed."""
    fusion = build(name, 4, options)
    u, v = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    copies, state = (u.clone(), v.clone()), torch.get_rng_state()
    first, second = fusion(u, v), fusion(u, v)
    assert torch.equal(first, second)
    assert torch.equal(u, copies[0])
    assert torch.equal(v, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


@each_variant
def test_state_survives(name, options):
    """state_dict, deepcopy and pickle give back a fusion that computes the same."""
    fusion, fresh = build(name, 4, options), build(name, 4, options)
    u, v = torch.randn(2, 4).double(), torch.randn(2, 4).double()
    buffer = io.BytesIO()
    torch.save(fusion.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for twin in (fresh, copy.deepcopy(fusion), pickle.loads(pickle.dumps(fusion))):
        assert twin is not fusion
        assert torch.equal(twin(u, v), fusion(u, v))
        assert repr(twin) == repr(fusion)


@each_variant
def test_every_parameter_is_seen_and_trains(name, options):
    """Each tensor that the fusion holds is in state_dict(); each parameter and input gets a gradient not zero."""
    fusion = build(name, 4, options)
    held = {
        key for module in fusion.modules() for key, value in vars(module).items() if isinstance(value, torch.Tensor)
    }
    assert not held, f"plain tensors that .to() and state_dict() do not see: {held}"
    u, v = (torch.randn(8, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    fusion(u, v).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in (u, v, *fusion.parameters()))


@each_variant
def test_compiles_whole_and_exports(name, options):
    """torch.compile needs no graph break, and torch.export takes any batch size."""
    fusion = build(name, 4, options)
    u, v = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    compiled = torch.compile(fusion, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u, v), fusion(u, v))
    batch = torch.export.Dim("batch")
    exported = torch.export.export(fusion, (u, v), dynamic_shapes={"u": {0: batch}, "v": {0: batch}})
    torch.testing.assert_close(exported.module()(u[:2], v[:2]), fusion(u[:2], v[:2]))


@each_variant
@given(data=st.data())
def test_symmetry_is_as_declared(name, options, data):
    """Symmetric: swapping changes nothing. Antisymmetric: it changes the sign."""
    width = data.draw(st.integers(1, 4))
    fusion = build(name, width, options)
    u, v = data.draw(vectors(width)), data.draw(vectors(width))
    one, other = fusion(u, v), fusion(v, u)
    if fusion.symmetry == "symmetric":
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-10)
    if fusion.symmetry == "antisymmetric":
        torch.testing.assert_close(one, -other, rtol=1e-12, atol=1e-10)


@each_variant
def test_no_symmetry_has_a_witness(name, options):
    """Declared without symmetry: some pair shows that swapping changes the features, and not just their sign."""
    fusion = build(name, 4, options)
    u, v = torch.randn(20, 4).double(), torch.randn(20, 4).double()
    one, other = fusion(u, v), fusion(v, u)
    changes = (one - other).abs().max() > 0.1 and (one + other).abs().max() > 0.1
    assert changes == (fusion.symmetry == "none")


def mixed_difference(fusion, u, u2, v, v2) -> float:
    return (fusion(u, v) - fusion(u2, v) - fusion(u, v2) + fusion(u2, v2)).abs().max().item()


@each_variant
@given(data=st.data())
def test_additivity_is_as_declared(name, options, data):
    """Additive: the mixed second difference f(u,v) − f(u',v) − f(u,v') + f(u',v') is 0 everywhere."""
    width = data.draw(st.integers(1, 4))
    fusion = build(name, width, options)
    if fusion.additive:
        assert mixed_difference(fusion, *(data.draw(vectors(width)) for _ in range(4))) < 1e-10


@each_variant
def test_not_additive_has_a_witness(name, options):
    """Not additive: some four embeddings have a mixed second difference that is not 0."""
    fusion = build(name, 4, options)
    difference = mixed_difference(fusion, *(torch.randn(20, 4).double() for _ in range(4)))
    assert (difference > 0.1) == (not fusion.additive)


@each_name
@given(pair=embedding_pairs())
def test_xnor_learnability_is_as_declared(name, pair):
    """ "always" separates every a ≠ b, "never" none, "generic" all but the special positions that theory names."""
    a, b = pair
    oracle = ORACLES[name]
    fusion = oracle.most_expressive(len(a)) if oracle.most_expressive else build(name, len(a), {})
    learnable = oracle.learns_xnor(exact(a), exact(b))
    assert (pf.xnor_margin(fusion, a, b) > 0) == learnable
    if fusion.xnor != "generic":
        assert learnable == (fusion.xnor == "always")


@each_name
def test_generic_means_both(name):
    """A fusion declared "generic" has pairs that it can tell apart and pairs that it cannot."""
    a, b = torch.tensor([1.0, 2.0]).double(), torch.tensor([-1.0, 3.0]).double()
    oracle = ORACLES[name]
    fusion = oracle.most_expressive(2) if oracle.most_expressive else build(name, 2, {})
    free, collinear = pf.xnor_margin(fusion, a, b) > 0, pf.xnor_margin(fusion, a, 2 * a) > 0
    expected = {"never": (False, False), "generic": (True, False), "always": (True, True)}
    assert (bool(free), bool(collinear)) == expected[fusion.xnor]


@each_variant
def test_contrast_is_as_declared(name, options):
    """The means over same and different pairs of standard normal embeddings are those declared."""
    fusions = [
        build(name, 16, options, torch.float32, seed) for seed in range(30)
    ]  # fresh weights, where there are any
    for fusion in fusions:
        if getattr(fusion, "bias", None) is not None:
            torch.nn.init.zeros_(fusion.bias)
    u, v = torch.randn(2000, 16), torch.randn(2000, 16)
    same = torch.stack([fusion(u, u).mean() for fusion in fusions]).mean().item()
    different = torch.stack([fusion(u, v).mean() for fusion in fusions]).mean().item()
    assert (same, different) == pytest.approx(fusions[0].contrast, abs=0.15)
