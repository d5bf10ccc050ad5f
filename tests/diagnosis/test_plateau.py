"""Models that were trained to the plateau: their logits are rounding errors of numbers that cancel."""

import re
from pathlib import Path

import pytest
import torch
from clinic import faulty_plateau
from torch import nn

import pairfuse as pf

SEEDS = range(5)
X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()


def comparator_at_the_plateau(seed):
    patient = faulty_plateau.plateau_of_a_comparator.build(seed)
    assert patient.model(patient.x1, patient.x2).abs().max() < 1e-3
    return patient


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("seed", SEEDS)
def test_trained_model_of_the_page(loss, seed):
    """It is a sum, first of all, and verified; rounding is no dependence on the batch."""
    patient = getattr(faulty_plateau, f"plateau_of_the_{loss}").build(seed)
    diagnosis = pf.diagnose(patient.model, patient.x1, patient.x2, patient.y, **patient.options)
    finding = diagnosis.findings[0]
    assert (finding.id, finding.verdict, finding.ground) == ("additive", "fail", "verified")
    assert "at three sets of random weights" in finding.summary
    assert diagnosis["batch-dependence"].verdict == "ok"
    assert not diagnosis.ok


@pytest.mark.parametrize("seed", SEEDS)
def test_trained_comparator(seed):
    """Its algebra decides, whatever its logits are; behind a lambda it is measured."""
    patient = comparator_at_the_plateau(seed)
    model = patient.model
    for call, ground in ((model, "proved"), (lambda a, b: model(a, b), "verified")):
        diagnosis = pf.diagnose(call, patient.x1, patient.x2, patient.y)
        assert (diagnosis.findings[0].id, diagnosis.findings[0].ground) == ("additive", ground)
        assert diagnosis["batch-dependence"].verdict == "ok"
        assert not diagnosis.ok


class Hidden:
    """A callable in which no module is found."""

    __slots__ = ("model",)

    def __init__(self, model):
        self.model = model

    def __call__(self, x1, x2):
        return self.model(x1, x2)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_other_weights_it_is_never_ok(seed):
    """Logits that rounding explains leave it undecided; other items show the sum."""
    patient = comparator_at_the_plateau(seed)
    hidden = Hidden(patient.model)
    diagnosis = pf.diagnose(hidden, patient.x1, patient.x2, patient.y)
    assert not diagnosis.ok
    if "additive" in diagnosis.skipped:
        assert "additive" in diagnosis.undecided
        assert "pass module=" in diagnosis.skipped["additive"]
    else:  # the logits of some seeds are a little above rounding
        assert diagnosis["additive"].verdict == "fail"
    others = torch.randn(2, 32, 12, generator=torch.Generator().manual_seed(seed))
    assert pf.diagnose(hidden, *others)["additive"].ground == "observed"


@pytest.mark.parametrize("seed", SEEDS)
def test_watch_for_plateau(seed, capsys):
    """The block of the page prints what the page promises."""
    page = (Path(__file__).parents[2] / "docs" / "stuck.md").read_text()
    block = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class WatchForPlateau" in code
    )
    torch.manual_seed(seed)
    exec(block, {"torch": torch, "nn": nn, "pf": pf})
    assert capsys.readouterr().out == "additive\n"


@pytest.mark.parametrize(("items", "mean"), [(1.0, 0.0), (255.0, 128.0), (1e-3, 0.0)])
@pytest.mark.parametrize("last", [1.0, 1e-7])
@pytest.mark.parametrize("seed", SEEDS)
def test_small_logits_that_are_no_rounding(items, mean, last, seed):
    """Neither the size of the inputs nor that of the logits makes a product a sum, a constant, or asymmetric."""
    torch.manual_seed(seed)
    encoder, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        head.weight.mul_(last)
    diagnosis = pf.diagnose(lambda a, b: head(encoder(a) * encoder(b)).squeeze(1), X1 * items + mean, X2 * items + mean)
    assert diagnosis["additive"].verdict == "ok"
    assert diagnosis["constant-output"].verdict == "ok"
    assert diagnosis["asymmetric"].verdict == "ok"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_symmetry(seed):
    """A symmetric model whose large parts cancel, whatever the weights, depends neither on order nor on the batch."""
    torch.manual_seed(seed)
    encoder = nn.Linear(8, 8)

    def model(x1, x2):
        u, v = encoder(x1), encoder(x2)
        return (1000 * u + 1000 * v - 1000 * (u + v) + 1e-3 * u * v).sum(1)

    diagnosis = pf.diagnose(model, X1, X2)
    assert diagnosis["asymmetric"].verdict == "ok"
    assert diagnosis["batch-dependence"].verdict == "ok"


@pytest.mark.parametrize(("column", "row", "cure"), [(True, False, "squeeze(1), or"), (False, True, "y.squeeze(1)")])
def test_loss_that_raises_for_the_shapes(column, row, cure):
    """The finding has the loss's own message, and the cure."""
    encoder, head = nn.Linear(8, 4), nn.Linear(4, 1)
    call = lambda a, b: head(encoder(a) * encoder(b)) if column else head(encoder(a) * encoder(b))[:, 0]  # noqa: E731
    finding = pf.diagnose(call, X1, X2, Y[:, None] if row else Y, loss=nn.BCEWithLogitsLoss())["broadcast"]
    assert finding.verdict == "warn"
    assert "must be the same as input size" in finding.evidence["ValueError"]
    assert cure in finding.advice


def test_loss_that_raises_for_equal_shapes_too():
    """It says nothing of the shapes, so the check is skipped with the loss's message."""

    def loss(scores, targets):
        raise RuntimeError("three arguments, please")

    encoder = nn.Linear(8, 4)
    call = lambda a, b: (encoder(a) * encoder(b)).sum(1, keepdim=True)  # noqa: E731
    reason = pf.diagnose(call, X1, X2, Y, loss=loss).skipped["broadcast"]
    assert "of one shape too: three arguments, please" in reason
