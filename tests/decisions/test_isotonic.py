"""`Isotonic`: a line through points, exact at them and never decreasing, in any dtype and under export."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from pairfuse.decisions import Isotonic
from pairfuse.decisions.calibration import calibration_from_dict


def exact(calibration, score):
    """The line in fractions."""
    points = [*zip(map(Fraction, calibration.scores), map(Fraction, calibration.logits), strict=True)]
    score = min(max(Fraction(score), points[0][0]), points[-1][0])
    for (low, below), (high, above) in pairwise(points):
        if low <= score <= high:
            return float(below + (above - below) * (score - low) / (high - low))
    return float(points[0][1])


def many(knots, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(knots, generator=generator).sort().values
    steps = torch.rand(knots, generator=generator) * (torch.arange(knots) % 3 > 0)  # some are flat
    return Isotonic(tuple(scores.tolist()), tuple((steps.cumsum(0) - 5).tolist()))


@pytest.mark.parametrize("knots", [1, 2, 256])
def test_values(knots):
    calibration = many(knots)
    scores = torch.cat([3 * torch.randn(300, dtype=torch.float64), torch.tensor(calibration.scores)[:50].double()])
    due = torch.tensor([exact(calibration, x) for x in scores.tolist()], dtype=torch.float64)
    torch.testing.assert_close(calibration(scores), due, atol=1e-12, rtol=0)
    assert torch.equal(calibration(torch.tensor(calibration.scores)), torch.tensor(calibration.logits))
    ends = calibration(torch.tensor([-torch.inf, torch.inf, torch.nan]))
    assert ends[:2].tolist() == torch.tensor([calibration.logits[0], calibration.logits[-1]]).tolist()
    assert ends[2].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_never_decreases(dtype):
    """Rounding does not swap two scores, across points either."""
    calibration = many(256)
    scores = (3 * torch.randn(20_000)).to(dtype)
    near = torch.tensor(calibration.scores).to(dtype)
    below, above = (near.float().sub(1e-7).to(dtype), near.float().add(1e-7).to(dtype))
    logits = calibration(torch.cat([scores, near, below, above]).sort().values)
    assert logits.dtype == dtype
    assert (logits.diff() >= 0).all()


def test_is_exact_at_the_points():
    """Not an ulp beyond a point just before it, which would be more than at the point."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        scores, logits = torch.randn(2, 3, generator=generator).sort(1).values
        calibration = Isotonic(tuple(scores.tolist()), tuple(logits.tolist()))
        assert torch.equal(calibration(scores), logits)
        around = [scores, *(torch.nextafter(scores, torch.tensor(end)) for end in (-torch.inf, torch.inf))]
        assert (calibration(torch.cat(around).sort().values).diff() >= 0).all()


def test_shapes():
    """Any shape, also none, empty, and a transposed matrix."""
    calibration = many(5)
    for scores in torch.randn(()), torch.randn(0), torch.randn(3, 4).T, torch.randn(2, 3, 4)[:, ::2]:
        assert calibration(scores).shape == scores.shape
        assert all(calibration(x) == y for x, y in zip(scores.flatten(), calibration(scores).flatten(), strict=True))


def test_export_has_the_same_bits():
    """What an export computes instead of a search in the points is equal."""

    class Calibrated(torch.nn.Module):
        def forward(self, scores):
            return calibration(scores)

    calibration = calibration_from_dict(many(256).to_dict())
    n = torch.export.Dim("n")
    program = torch.export.export(Calibrated(), (torch.randn(3),), dynamic_shapes=({0: n},)).module()
    scores = torch.cat([torch.tensor(calibration.scores), torch.randn(100), torch.tensor([torch.nan, torch.inf])])
    torch.testing.assert_close(program(scores), calibration(scores), atol=0, rtol=0, equal_nan=True)
