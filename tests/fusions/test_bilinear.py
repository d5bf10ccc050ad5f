"""What only the fusions with weights have: their initialization, their symmetric forms, their widths."""

import inspect

import pytest
import torch

import pairfuse as pf
from pairfuse.fusions import MFB, NTN, Biaffine, Bilinear, LowRankBilinear

WEIGHTED = [Bilinear, Biaffine, LowRankBilinear, MFB]
each = pytest.mark.parametrize("fusion", [*WEIGHTED, NTN])


@pytest.mark.parametrize("width", [32, 64, pytest.param(512, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fusion", "options"),
    [
        *((fusion, {}) for fusion in WEIGHTED),
        *((fusion, {"symmetric": True}) for fusion in (Bilinear, Biaffine)),
        *((fusion, {"tied": True}) for fusion in (LowRankBilinear, MFB)),
        (LowRankBilinear, {"activation": None}),
        (LowRankBilinear, {"rank": 64}),
        (MFB, {"rank": 1}),
    ],
)
def test_unit_variance_in_unit_variance_out(fusion, options, width):
    """Whatever the width and the rank; over many draws of the weights, and for u and v that are independent."""
    drawn = [fusion(width, 16, **options) for _ in range(30)]
    u, v = torch.randn(300, width), torch.randn(300, width)
    variance = torch.stack([built(u, v).square().mean() for built in drawn]).mean().item()
    assert variance == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("width", [4, 64, 512])
def test_ntn_is_not_saturated(width):
    """Unit variance before the tanh."""
    fusion = NTN(width, 64)
    before = fusion(torch.randn(500, width), torch.randn(500, width)).atanh()
    assert before.square().mean().item() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("width", [4, 64, 512])
def test_torch_nn_bilinear_is_not_so(width):
    """Its default gives a standard deviation of about √(D / 3)."""
    theirs = torch.nn.Bilinear(width, width, 64)(torch.randn(500, width), torch.randn(500, width)).std().item()
    assert theirs == pytest.approx((width / 3) ** 0.5, rel=0.25)


@each
def test_two_widths_have_unit_variance_too(fusion):
    features = torch.stack(
        [fusion(64, 16, in2_features=8)(torch.randn(300, 64), torch.randn(300, 8)) for _ in range(30)]
    )
    expected = 0.394 if fusion is NTN else 1  # of a tanh
    assert features.square().mean().item() == pytest.approx(expected, abs=0.25 * expected)


@pytest.mark.parametrize("fusion", [Bilinear, Biaffine])
def test_symmetric_stays_symmetric_under_training(fusion):
    """The weight starts symmetric, and its gradient is symmetric, so that any elementwise optimizer keeps it so."""
    built = fusion(5, 2, symmetric=True)
    optimizer = torch.optim.AdamW(built.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        built(torch.randn(7, 5), torch.randn(7, 5)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(built.weight, built.weight.mT)


@pytest.mark.parametrize("fusion", [LowRankBilinear, MFB])
def test_tied_means_one_projection(fusion):
    """Not a flag that is ignored: one weight, and swapping changes nothing, also after training."""
    tied, untied = fusion(5, tied=True), fusion(5)
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == (
        untied.right_projection.weight.numel() + untied.right_projection.bias.numel()
    )
    optimizer = torch.optim.AdamW(tied.parameters(), lr=0.1)
    u, v = torch.randn(7, 5), torch.randn(7, 5)
    for _ in range(5):
        optimizer.zero_grad()
        tied(u, v).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(tied(u, v), tied(v, u))
    assert (tied.symmetry, untied.symmetry) == ("symmetric", "none")


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("bilinear", {"out_features": 3}, 3 * (25 + 1)),
        ("biaffine", {"out_features": 3}, 3 * 36),
        ("ntn", {"out_features": 3}, 3 * (25 + 2 * 5 + 1)),
        ("low-rank-bilinear", {"out_features": 3, "rank": 2}, 2 * 2 * (5 + 1) + 3 * (2 + 1)),
        ("mfb", {"out_features": 3, "rank": 2}, 2 * 3 * 2 * (5 + 1)),
    ],
)
def test_number_of_parameters(name, options, parameters):
    """As in the papers' formulas; MFB without the projection of its classifier, which is the head's."""
    assert pf.make_fusion(name, 5, **options).facts().parameters == parameters


@pytest.mark.parametrize("fusion", [LowRankBilinear, MFB])
def test_no_weight_starts_at_zero(fusion):
    """Two factors of zero would have gradient zero for ever."""
    weights = [parameter for name, parameter in fusion(5).named_parameters() if name.endswith("weight")]
    assert all((weight != 0).all() for weight in weights)


@pytest.mark.parametrize(("fusion", "option"), [(f, "symmetric" if f in WEIGHTED[:2] else "tied") for f in WEIGHTED])
def test_symmetric_and_tied_need_one_width(fusion, option):
    words = f"{fusion.__name__} expects one width with {option}=True, got in_features=3 and in2_features=2"
    with pytest.raises(ValueError, match=words):
        fusion(3, 1, in2_features=2, **{option: True})
    assert fusion(3, 1).two_widths
    assert not fusion(3, 1, **{option: True}).two_widths


@each
def test_reset_parameters_follows_the_seed(fusion):
    built = fusion(3, 2)
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        built.reset_parameters()
        states.append([parameter.clone() for parameter in built.parameters()])
    assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))
    torch.manual_seed(8)
    built.reset_parameters()
    assert not torch.equal(states[0][0], next(built.parameters()))


@each
def test_device_and_dtype(fusion):
    built = fusion(3, 2, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in built.parameters()} == {("meta", torch.bfloat16)}


def test_bias_is_optional():
    assert len(list(Bilinear(3, bias=False).parameters())) == 1


@each
def test_out_features_is_positive(fusion):
    with pytest.raises(ValueError, match=f"{fusion.__name__} expects out_features to be at least 1, got 0"):
        fusion(3, 0)


@pytest.mark.parametrize("fusion", [LowRankBilinear, MFB])
@pytest.mark.parametrize(("rank", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_rank_is_positive(fusion, rank, error):
    with pytest.raises(error, match=f"{fusion.__name__} expects rank to be"):
        fusion(3, rank=rank)


@pytest.mark.parametrize("activation", ["relu", torch.tanh, torch.nn.Tanh()])
def test_activation_is_known(activation):
    """With a ReLU or a sigmoid rank 1 could never tell same from different."""
    with pytest.raises(ValueError, match="LowRankBilinear expects activation to be 'tanh' or None, got"):
        LowRankBilinear(3, activation=activation)


def test_low_rank_without_activation_is_a_bilinear_form():
    """Of a weight whose rank is at most R."""
    fusion = LowRankBilinear(6, 1, rank=2, activation=None).double()
    form = Biaffine(6).double()
    with torch.no_grad():
        left, right = (
            torch.cat([side.weight, side.bias[:, None]], 1)
            for side in (fusion.left_projection, fusion.right_projection)
        )  # (R, D + 1)
        form.weight.copy_(torch.einsum("r,rd,re->de", fusion.out.weight[0], left, right)[None])
    u, v = torch.randn(5, 6).double(), torch.randn(5, 6).double()
    torch.testing.assert_close(fusion(u, v), form(u, v) + fusion.out.bias)
    assert torch.linalg.matrix_rank(form.weight[0]) == 2


@each
def test_options_are_keywords_in_torchs_order(fusion):
    """in_features and out_features by position, as in nn.Linear; the rest by name, device and dtype last."""
    parameters = inspect.signature(fusion).parameters
    assert list(parameters)[:3] == ["in_features", "out_features", "in2_features"]
    assert list(parameters)[-2:] == ["device", "dtype"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
