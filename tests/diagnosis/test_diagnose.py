"""`diagnose`: the founding question, the report, and what it says of bad input."""

import copy
import functools
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from clinic.case import conv_encoder
from torch import nn

import pairfuse as pf
from pairfuse.diagnosis import report
from pairfuse.diagnosis.anova import additive_part, order_of, rms, rounding, shares
from pairfuse.diagnosis.probes import PROBES
from pairfuse.testing import assert_can_learn_same

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()
GOOD = pf.SiameseComparator(nn.Linear(8, 4))


class Question(nn.Module):
    """The model of the founding question with small encoders, and the one that cured it."""

    def __init__(self, multiply=False):
        super().__init__()
        self.q_encoder = conv_encoder(features=32)
        self.k_encoder = conv_encoder(features=32)
        self.multiply = multiply
        self.fc = nn.Sequential(nn.Linear(32 if multiply else 64, 1), nn.Sigmoid())

    def forward(self, x):
        q, k = self.q_encoder(x[:, 0]), self.k_encoder(x[:, 1])
        return self.fc(q * k if self.multiply else torch.cat([q, k], 1)).squeeze(1)


def ask(model):
    x1, x2, y = next(iter(torch.utils.data.DataLoader(pf.data.BlackWhitePairs(length=32, size=8), 32)))
    return pf.diagnose(lambda a, b: model(torch.stack([a, b], 1)), x1, x2, y, loss=nn.MSELoss())


def test_founding_question():
    """It is additive, verified, as the first finding, with the advice that cured it."""
    finding = ask(Question()).findings[0]
    assert (finding.id, finding.verdict, finding.ground) == ("additive", "fail", "verified")
    assert "multiply them element by element" in finding.advice


def test_cure_of_the_founding_question():
    """A product instead of the concatenation learns the quartet."""
    diagnosis = ask(Question(multiply=True))
    assert diagnosis.ok
    assert diagnosis["xnor-overfit"].verdict == "ok"


def test_broadcast():
    """A column of scores against a row of targets is a warning, since the training loop may reshape them."""
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1))
    call, loss = lambda a, b: model((a - b).abs()), nn.MSELoss()
    assert pf.diagnose(call, X1, X2, Y, loss=loss)["broadcast"].verdict == "warn"
    assert pf.diagnose(call, X1, X2, Y[:, None], loss=loss)["broadcast"].verdict == "ok"
    assert pf.diagnose(call, X1, X2, Y).skipped["broadcast"] == "no loss was given"


@pytest.mark.parametrize("wrap", ["partial", "method", "closure", "argument", "two modules"])
def test_module_behind_a_callable(wrap):
    """It is found, and its weights are redrawn to verify a finding."""
    encoder, head = nn.Linear(8, 4), nn.Linear(8, 1)
    model = nn.ModuleDict({"encoder": encoder, "head": head})

    def two(x1, x2):
        return head(torch.cat([encoder(x1), encoder(x2)], 1))

    def of(model, x1, x2):
        return model["head"](torch.cat([model["encoder"](x1), model["encoder"](x2)], 1))

    class Trainer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def predict(self, x1, x2):
            return of(self.model, x1, x2)

    hidden = [model]
    callables = {
        "partial": (functools.partial(lambda a, b: of(model, a, b)), {}),
        "method": (Trainer().predict, {}),
        "closure": (lambda a, b: of(model, a, b), {}),
        "argument": (lambda a, b: of(hidden[0], a, b), {"module": model}),
        "two modules": (two, {}),
    }
    call, options = callables[wrap]
    finding = pf.diagnose(call, X1, X2, **options)["additive"]
    assert (finding.verdict, finding.ground) == ("fail", "verified")


def test_callable_without_a_module():
    """The finding is observed only, and the probes that need weights give the reason why they did not run."""
    weight = torch.randn(8, generator=torch.Generator().manual_seed(1))
    diagnosis = pf.diagnose(lambda a, b: a @ weight - b @ weight / 2, X1, X2)
    finding = diagnosis["additive"]
    assert (finding.verdict, finding.ground) == ("fail", "observed")
    assert "Pass module= to verify it" in finding.summary
    assert "pass module=" in diagnosis.skipped["nan-gradient"]


def test_additive_comparator():
    """It is proved by its algebra, with the certificate of two of its embeddings."""
    model = pf.SiameseComparator(nn.Linear(8, 4), "concat", allow_additive=True)
    finding = pf.diagnose(model, X1, X2)["additive"]
    assert (finding.verdict, finding.ground) == ("fail", "proved")
    assert finding.evidence["certificate"].startswith("not separable: 0.5 f(a, a) + 0.5 f(b, b)")
    assert pf.diagnose(model, X1, X2, ranking=True)["additive"].verdict == "note"


def test_product_geometry_of_a_comparator():
    """The margin is that of its embeddings."""
    model = pf.SiameseComparator(nn.Identity(), "product", embedding_dim=8)
    finding = pf.diagnose(model, X1, X2)["product-geometry"]
    items = torch.stack([X1, X2], 1).flatten(0, 1)[:16]
    i, j = torch.triu_indices(16, 16, 1)
    due = pf.xnor_margin(model.fusion, items[i], items[j], relative=True).median()
    assert finding.evidence["median relative margin"] == pytest.approx(due.item())


def test_compiled_and_parallel_models(compiler):
    """They are unwrapped, and the module inside is judged."""
    encoder, head = nn.Linear(8, 4), nn.Linear(8, 1)

    class Concat(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = encoder, head

        def forward(self, x1, x2):
            return self.head(torch.cat([self.encoder(x1), self.encoder(x2)], 1))

    for model in (torch.compile(Concat()), nn.DataParallel(Concat())):
        assert pf.diagnose(model, X1, X2)["additive"].ground == "verified"


def test_nested_inputs_of_two_kinds():
    """Probes that need one kind of item are skipped; the others run."""

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.words = nn.Linear(8, 4), nn.EmbeddingBag(20, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, image, text):
            return self.head(self.image(image) * self.words(text["ids"]))

    text = {"ids": torch.randint(20, (32, 5))}
    diagnosis = pf.diagnose(Towers(), X1, text, Y)
    assert diagnosis.ok
    assert diagnosis["xnor-overfit"].verdict == "ok"
    assert "different kinds" in diagnosis.skipped["asymmetric"]


def test_report():
    """Text, HTML and JSON hold every finding, sorted by severity."""
    model = pf.SiameseComparator(nn.Linear(8, 4), "concat", allow_additive=True)
    diagnosis = pf.diagnose(model, X1, X2, Y, optimizer=torch.optim.SGD(model.encoder.parameters()))
    grave = [report.VERDICTS.index(finding.verdict) for finding in diagnosis.findings]
    assert grave == sorted(grave)
    text, page = str(diagnosis), diagnosis._repr_html_()
    data = json.loads(json.dumps(diagnosis.to_dict()))
    assert len(data["findings"]) + len(data["skipped"]) == len(PROBES)
    assert not data["ok"]
    for finding in diagnosis.findings:
        assert finding.id in text
        assert f"<code>{finding.id}</code>" in page
        assert finding.url is None  # until the documentation has an address
    for id in diagnosis.skipped:
        assert id in text
        assert f"<code>{id}</code>" in page
    assert max(map(len, text.splitlines())) <= 100
    assert re.match(r"pairfuse diagnosis: 1 fail, \d warn, \d note, \d+ ok \(\d", text)


def test_html_escapes():
    """Summaries, evidence, advice and reasons are escaped."""
    finding = pf.Finding("labels", "fail", "a < b & c", {"x": "<script>"}, "<b>")
    page = pf.Diagnosis((finding,), {"frozen": "<i>"}, torch.zeros(2, 2), 0.1)._repr_html_()
    assert "a &lt; b &amp; c" in page
    assert "<script>" not in page
    assert "<i>" not in page


def test_getitem_of_a_missing_id():
    """The KeyError gives the reason of a skipped probe, or the known ids."""
    diagnosis = pf.diagnose(GOOD, X1, X2)
    with pytest.raises(KeyError, match="no targets were given"):
        diagnosis["labels"]
    with pytest.raises(KeyError, match="no such probe; there are"):
        diagnosis["lables"]


def test_plot(tmp_path):
    """The logits are the sum of the other two pictures."""
    figure = pf.diagnose(GOOD, X1, X2).plot()
    logits, best, rest = (axis.images[0].get_array() for axis in figure.axes[:3])
    assert abs(logits - best - rest).max() < 1e-6
    figure.savefig(tmp_path / "grid.png")


def test_grids():
    """An additive grid has no interaction and no crossover; XNOR has nothing else."""
    row, column = torch.randn(5, 1, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    assert torch.allclose(additive_part(row + column), row + column)
    assert shares(row + column).interaction < 1e-12
    assert sum(shares(torch.randn(5, 4, dtype=torch.float64))) == pytest.approx(1)
    assert not order_of((row + column).sigmoid()).crosses
    xnor = torch.eye(2, dtype=torch.float64) * 2 - 1
    assert shares(xnor) == (0, 0, 1)
    assert order_of(xnor).crosses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding(dtype):
    """A rounded sum lies within it, and an interaction of 2 % outside."""
    row, column = torch.randn(16, 1, dtype=torch.float64), torch.randn(1, 16, dtype=torch.float64)
    grid = (row + column).to(dtype).double()
    assert rms(grid - additive_part(grid)) < rounding(float(grid.abs().max()), dtype) < 0.02 * grid.abs().max()


def test_seed():
    """Two diagnoses of one model agree, whatever the random state, with dropout too."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(pf.diagnose(lambda a, b: model(a * b), X1, X2, Y).to_dict()["findings"])
    assert found[0] == found[1]


def test_progress(capsys):
    """The bar has a title."""
    pf.diagnose(GOOD, X1, X2, progress=True)
    assert "diagnosing" in capsys.readouterr().err


def test_assert_can_learn_same():
    """Passes for what can learn it; the message of a failure is the diagnosis."""
    assert_can_learn_same(GOOD, X1, X2)
    assert_can_learn_same(GOOD, X1, X2, Y)
    additive = pf.SiameseComparator(nn.Linear(8, 4), "concat", allow_additive=True)
    with pytest.raises(AssertionError, match=r"(?s)not seen to learn.*FAIL  additive \(proved\)"):
        assert_can_learn_same(additive, X1, X2)
    with pytest.raises(AssertionError, match=r"a\s+ranking,\s+in\s+which\s+the\s+order\s+matters"):
        assert_can_learn_same(additive, X1, X2, ranking=True)


def wrong(**changes):
    return {"model": GOOD, "x1": X1, "x2": X2, "y": Y, **changes}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (wrong(model="resnet18"), TypeError, "model must be a module or a callable of two batches, got str"),
        (wrong(module="resnet18"), TypeError, "diagnose expects module to be an nn.Module"),
        (wrong(x2=X2[:5]), ValueError, r"the same number of items, got 32 \(x1 of shape \(32, 8\)\) and 5"),
        (wrong(y=Y[:5]), ValueError, r"y must hold one target for each of 32 pairs, shape \(32,\), got shape \(5,\)"),
        (wrong(y=Y.tolist()), TypeError, "y must be a tensor of 32 targets"),
        (wrong(x1=torch.ones(32, 8), x2=torch.ones(32, 8)), ValueError, "at least two different items"),
        (wrong(optimizer=GOOD.parameters()), TypeError, "optimizer must be a torch.optim.Optimizer, got generator"),
        (wrong(loss="mse"), TypeError, "loss must be a callable such as nn.BCEWithLogitsLoss"),
        (wrong(x1=X1[:0], x2=X2[:0], y=None), ValueError, "at least one pair, got none"),
        (wrong(returns="probability"), ValueError, "returns must be 'logits', 'probabilities' or None"),
        (wrong(model=lambda a, b: a), ValueError, r"one score for each of \d+ pairs.*got shape \(\d+, 8\)"),
        (wrong(model=lambda a, b: {"logits": a[:, 0]}), TypeError, "floating-point tensor.*got dict: wrap it, as in"),
        (wrong(model=lambda a, b: a[:, 0] > 0), TypeError, "got a tensor of torch.bool"),
    ],
)
def test_bad_input(arguments, error, message):
    """Each wrong argument gets one clear error."""
    with pytest.raises(error, match=message):
        pf.diagnose(arguments.pop("model"), arguments.pop("x1"), arguments.pop("x2"), **arguments)


def test_error_of_the_model():
    """It is kept, with a note on the shapes that the model got."""
    with pytest.raises(RuntimeError) as error:
        pf.diagnose(nn.Bilinear(7, 7, 1), X1, X2)
    assert "diagnose called the model with shape" in error.value.__notes__[-1]


def test_one_pair():
    """Two different items are enough."""
    diagnosis = pf.diagnose(GOOD, X1[:1], X2[:1], Y[:1])
    assert diagnosis.grid.shape == (2, 2)
    assert diagnosis["xnor-overfit"].verdict == "ok"
    assert diagnosis["labels"].verdict == "note"


def test_model_on_another_device():
    """The error has a note on what the model was called with."""
    with pytest.raises((RuntimeError, NotImplementedError, ValueError)) as error:
        pf.diagnose(copy.deepcopy(GOOD).to("meta"), X1, X2)
    assert "diagnose called the model with" in error.value.__notes__[-1]


def test_not_finite_weights():
    """NaN blocks every other probe."""
    model = copy.deepcopy(GOOD)
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    diagnosis = pf.diagnose(model, X1, X2)
    assert [finding.id for finding in diagnosis.findings] == ["not-finite"]
    assert "head.weight" in diagnosis.findings[0].summary
    assert set(diagnosis.skipped.values()) == {"see not-finite"}


def test_not_finite_inputs():
    """NaN in the input is distinguished from NaN in the model."""
    x1 = X1.clone()
    x1[3, 2] = torch.nan
    finding = pf.diagnose(GOOD, x1, X2).findings[0]
    assert finding.id == "not-finite"
    assert finding.summary.startswith("There is NaN or infinity in x1, and")


def test_model_of_one_argument():
    """The error has a note that shows the wrapper."""
    with pytest.raises(TypeError) as error:
        pf.diagnose(nn.Linear(8, 1), X1, X2)
    assert "lambda x1, x2: model(torch.stack([x1, x2], 1))" in error.value.__notes__[-1]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_mode_of_the_caller(mode):
    """It does not matter, nor do inputs that were made in inference mode."""
    with mode():
        diagnosis = pf.diagnose(GOOD, X1 * 1, X2 * 1, Y)
    assert diagnosis.to_dict()["findings"] == pf.diagnose(GOOD, X1, X2, Y).to_dict()["findings"]


def test_to_dict_of_not_finite_evidence():
    """JSON has no NaN, so it becomes text."""
    finding = pf.Finding("labels", "note", "", {"a": float("nan"), "b": float("inf"), "c": 1.0})
    data = pf.Diagnosis((finding,), {}, torch.zeros(2, 2), 0.1).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False))["findings"][0]["evidence"] == {"a": "nan", "b": "inf", "c": 1}


def test_documentation_of_probes():
    """Each probe has a heading on the page; the docstring names the four things that the page shows."""
    page = (Path(__file__).parents[2] / "docs" / "stuck.md").read_text()
    assert re.findall(r"^### (\S+)\n", page, re.MULTILINE) == [probe.id for probe in PROBES]
    for probe in PROBES:
        words = ("Symptom:", "Computation:", "Threshold:", "False alarms:")
        text = " ".join(inspect.getdoc(probe.run).split())
        places = [text.index(word) for word in words]
        assert places == sorted(places), probe.id
