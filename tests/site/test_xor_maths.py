"""The XOR page computes what pairfuse computes: its JavaScript and the package on the same drawn embeddings."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from needs import skip_for_want_of

import pairfuse as pf
from pairfuse.xnor import xnor_certificate

MATHS = Path(__file__).parents[2] / "docs" / "xor" / "maths.mjs"
ON_EACH_CASE = """
import { FUSIONS, analyze, draw2d } from "MATHS";
import { readFileSync } from "node:fs";
const cases = JSON.parse(readFileSync(0));
const answer = (name, [a, b]) => { const found = analyze(name, a, b); return { ...found, drawn: draw2d(found) }; };
const names = Object.keys(FUSIONS);
console.log(JSON.stringify(Object.fromEntries(names.map((name) => [name, cases.map((pair) => answer(name, pair))]))));
"""


def draw_cases() -> torch.Tensor:
    """Pairs of embeddings of width 2, `(N, 2, 2)`: from a grid, in special positions, and free."""
    generator = torch.Generator().manual_seed(0)

    def grid(count):
        return torch.randint(-64, 65, (count, 2), generator=generator).double() / 16

    a, b = grid(600), grid(600)
    factors = torch.tensor([-2.0, -1.0, 0.0, 0.5, 2.0, 3.0]).double()[torch.randint(6, (200,), generator=generator)]
    collinear = grid(200)
    one_equal = torch.stack([a[:50, 0], b[:50, 1]], -1)
    zero = torch.zeros(50, 2).double()
    free = torch.randn(3, 300, 2, generator=generator).double()
    thirds = torch.arange(1, 301).double()[:, None] / 3  # collinear up to rounding
    pairs = [
        (a, b),
        (collinear, collinear * factors[:, None]),
        (a[:50], one_equal),  # one coordinate is that of a
        (b[:50], zero),
        (zero, b[50:100]),
        (a[:25], a[:25]),
        (zero[:1], zero[:1]),
        (a[:100], a[:100].flip(-1)),
        (free[0], free[1]),
        (free[2], free[2] * thirds),
    ]
    return torch.cat([torch.stack(pair, dim=1) for pair in pairs])


CASES = draw_cases()
# What the page has. A new fusion need not be there.
OFFERED = re.search(r"^export const FUSIONS = \{$(.*?)^\};$", MATHS.read_text(), re.MULTILINE | re.DOTALL)[1]
NAMES = re.findall(r'^  "([\w-]+)":', OFFERED, re.MULTILINE)
each_name = pytest.mark.parametrize("name", NAMES)


def make(name: str) -> pf.Fusion:
    """The fusion; for the bilinear form all products of coordinates, of which every form is a linear head."""
    if name != "bilinear":
        return pf.make_fusion(name, 2)
    forms = pf.fusions.Bilinear(2, 4, bias=False)
    with torch.no_grad():
        forms.weight.copy_(torch.eye(4).view(4, 2, 2))
    return forms


@pytest.fixture(scope="module")
def answers():
    """What the page says of every case, from one Node process."""
    node = shutil.which("node")
    if node is None:
        skip_for_want_of("Node.js is not installed")
    script = ON_EACH_CASE.replace("MATHS", MATHS.as_uri())
    command = [node, "--input-type=module", "--eval", script]
    run = subprocess.run(command, input=json.dumps(CASES.tolist()), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_each_fusion_of_the_page_is_computed_and_registered(answers):
    """None is overlooked here, and none has weights but the bilinear form: the outer product, on which it is a head."""
    assert list(answers) == NAMES
    assert len(NAMES) >= 15
    assert {name for name in NAMES if pf.make_fusion(name, 2).facts().parameters} == {"bilinear"}
    assert len(CASES) >= 1000


@pytest.mark.parametrize(("page", "number"), [("", "fifteen"), ("zh/", "十五")])
def test_the_page_says_how_many_fusions_it_offers(page, number):
    text = (MATHS.parents[1] / page / "why-concatenation-fails.md").read_text()
    assert len(NAMES) == 15
    assert number in re.search(r"<noscript>(.*)</noscript>", text)[1]


@each_name
def test_margins_agree(name, answers):
    """To 1e-9, absolute and relative, and 0 at the same places."""
    a, b = CASES.unbind(1)
    for key, relative in (("margin", False), ("relative", True)):
        due = pf.xnor_margin(make(name), a, b, relative=relative).detach()
        ours = torch.tensor([answer[key] for answer in answers[name]], dtype=torch.float64)
        assert (ours - due).abs().max() <= 1e-9
        assert torch.equal(ours > 0, due > 0)
    assert [answer["separable"] for answer in answers[name]] == (due > 0).tolist()


@each_name
def test_certificates_agree(name, answers):
    """The same parameters of the common point, or the same best head."""
    kinds = set()
    for (a, b), answer in list(zip(CASES, answers[name], strict=True))[::13]:
        due = xnor_certificate(make(name), a, b)
        kinds.add(due.separable)
        assert answer["separable"] == due.separable
        if due.separable:
            assert answer["head"]["weight"] == pytest.approx(due.weight.tolist(), abs=1e-9 / due.margin)
            assert answer["head"]["bias"] == pytest.approx(due.bias.item(), rel=1e-9, abs=1e-9 / due.margin)
        else:
            shares = (answer["s"], answer["t"])
            if name != "cosine":  # of collinear embeddings all four cosines are 1, but for rounding: any shares will do
                assert shares == pytest.approx((due.same[1, 1].item(), due.different[1, 0].item()), abs=1e-9)
            (aa, bb, ab, ba), (s, t) = torch.tensor(answer["points"], dtype=torch.float64), shares
            torch.testing.assert_close((1 - s) * aa + s * bb, (1 - t) * ab + t * ba, rtol=1e-12, atol=1e-12)
    assert kinds == {"never": {False}}.get(pf.make_fusion(name, 2).xnor, {True, False})  # a = b is among the cases


@each_name
def test_the_best_head_is_right_as_often_as_one_can_be(name, answers):
    """Four times where the pairs are separable; else three times at most, and the page's head finds them."""
    is_same = torch.tensor([True, True, False, False])
    for (a, b), answer in zip(CASES, answers[name], strict=True):
        logits = torch.tensor(answer["head"]["logits"], dtype=torch.float64)
        right = (((logits > 0) == is_same) & (logits != 0)).sum().item()
        assert (right == 4) == answer["separable"]
        if name in ("concat", "sum", "mean", "diff") and not torch.equal(a, b):
            assert right == 3


@each_name
def test_the_drawing_is_exact_where_it_says_so(name, answers):
    """The head's logits can be read off the drawing, and where the pairs lie in the plane, so can all distances."""

    def stacked(values):
        return torch.tensor([list(value) for value in values], dtype=torch.float64)

    features = stacked(answer["points"] for answer in answers[name])  # (N, 4, F)
    points = stacked(answer["drawn"]["points"] for answer in answers[name])  # (N, 4, 2)
    weights = stacked(answer["drawn"]["head"]["weight"] for answer in answers[name])
    biases = stacked([answer["drawn"]["head"]["bias"]] for answer in answers[name])
    logits = stacked(answer["head"]["logits"] for answer in answers[name])
    torch.testing.assert_close((points * weights[:, None]).sum(-1) + biases, logits, rtol=1e-9, atol=1e-9)
    flat = torch.tensor([answer["drawn"]["shown"] > 1 - 1e-12 for answer in answers[name]])
    assert flat[[not answer["separable"] for answer in answers[name]]].all()

    def distances(x):
        return (x[:, :, None] - x[:, None]).norm(dim=-1)

    torch.testing.assert_close(distances(points[flat]), distances(features[flat]), rtol=0, atol=1e-5)
