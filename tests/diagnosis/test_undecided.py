"""`Diagnosis.ok` is False where a decisive probe could not get an answer, and models that cannot be examined."""

import pytest
import torch
from torch import nn

import pairfuse as pf

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()


class InPlace(nn.Module):
    """Its backward pass raises: a result that autograd needs is changed in place."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(8, 4), nn.Linear(4, 1)

    def forward(self, x1, x2):
        u, v = self.encoder(x1).sigmoid(), self.encoder(x2).sigmoid()
        score = self.head(u * v)
        u += 1
        return score.squeeze(1)


def test_backward_that_raises():
    """The report names it, in all its forms."""
    diagnosis = pf.diagnose(InPlace(), X1, X2, Y)
    assert diagnosis.undecided == ("xnor-overfit",)
    assert "modified by an inplace operation" in diagnosis.skipped["xnor-overfit"]
    assert not diagnosis.ok
    assert "UNDECIDED, so not ok: xnor-overfit (could not run: RuntimeError" in " ".join(str(diagnosis).split())
    assert "UNDECIDED, so not ok: <code>xnor-overfit</code>" in diagnosis._repr_html_()
    assert diagnosis.to_dict()["undecided"] == ["xnor-overfit"]


def test_infinite_logits_of_some_pairs():
    """Scores that are finite for the given pairs only leave `additive` without an answer."""
    encoder = nn.Linear(8, 4)
    call = lambda a, b: (encoder(a) * encoder(b)).sum(1) / (a != b).any(1)  # noqa: E731
    diagnosis = pf.diagnose(call, X1, X2, Y)
    assert {"constant-output", "additive"} <= set(diagnosis.undecided)
    assert not diagnosis.ok


def test_a_probe_that_does_not_apply_is_not_undecided():
    """A callable whose module is not known cannot be trained, and may be ok."""
    weight = torch.randn(8, generator=torch.Generator().manual_seed(1))
    diagnosis = pf.diagnose(lambda a, b: (a * b) @ weight, X1, X2, Y)
    assert "pass module=" in diagnosis.skipped["xnor-overfit"]
    assert diagnosis.ok
    assert not diagnosis.undecided


@pytest.mark.parametrize(
    "layers",
    [[nn.LazyLinear(4)], [nn.Linear(8, 4), nn.LazyBatchNorm1d()], [nn.Linear(8, 4), nn.LazyBatchNorm1d(affine=False)]],
)
def test_lazy_encoder(layers):
    """One clear error before anything is called."""
    model = pf.SiameseComparator(nn.Sequential(*layers), embedding_dim=4)
    with pytest.raises(ValueError, match=r"must have initialized parameters, got a lazy one, encoder\.\d\.\w+: call"):
        pf.diagnose(model, X1, X2)
    model(X1, X2)
    assert pf.diagnose(model, X1, X2)["additive"].verdict == "ok"
