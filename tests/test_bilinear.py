"""What only the bilinear fusion has: its initialisation and its symmetric form."""

import pytest
import torch

import pairfuse as pf


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("width", [4, 64, 512])
def test_unit_variance_in_unit_variance_out(width, symmetric):
    """Var W = 1 / (D1 · D2); torch.nn.Bilinear gives a standard deviation of about √(D / 3)."""
    fusion = pf.fusions.Bilinear(width, 64, symmetric=symmetric)
    u, v = torch.randn(500, width), torch.randn(500, width)
    assert fusion(u, v).std().item() == pytest.approx(1, abs=0.15)
    theirs = torch.nn.Bilinear(width, width, 64)(u, v).std().item()
    assert theirs == pytest.approx((width / 3) ** 0.5, rel=0.25)


def test_two_widths_have_unit_variance_too():
    fusion = pf.fusions.Bilinear(64, 64, in2_features=8)
    assert fusion(torch.randn(500, 64), torch.randn(500, 8)).std().item() == pytest.approx(1, abs=0.15)


def test_symmetric_stays_symmetric_under_training():
    """The weight starts symmetric, and its gradient is symmetric, so that any elementwise optimiser keeps it so."""
    fusion = pf.fusions.Bilinear(5, 2, symmetric=True)
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        fusion(torch.randn(7, 5), torch.randn(7, 5)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(fusion.weight, fusion.weight.mT)


def test_symmetric_needs_one_width():
    with pytest.raises(ValueError, match="Bilinear expects one width with symmetric=True, got in_features=3 and in2"):
        pf.fusions.Bilinear(3, 1, in2_features=2, symmetric=True)


def test_reset_parameters_follows_the_seed():
    fusion = pf.fusions.Bilinear(3, 2)
    torch.manual_seed(7)
    fusion.reset_parameters()
    first = fusion.weight.clone()
    torch.manual_seed(7)
    fusion.reset_parameters()
    assert torch.equal(fusion.weight, first)


def test_device_and_dtype():
    fusion = pf.fusions.Bilinear(3, 2, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in fusion.parameters()} == {("meta", torch.bfloat16)}
    assert len(list(pf.fusions.Bilinear(3, bias=False).parameters())) == 1


def test_out_features_is_positive():
    with pytest.raises(ValueError, match="Bilinear expects out_features to be at least 1, got 0"):
        pf.fusions.Bilinear(3, 0)
