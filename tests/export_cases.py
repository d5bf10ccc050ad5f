"""Models, inputs and decisions that the tests of deciders, search modules and exports share."""

import itertools

import pytest
import torch
from scoring_cases import FUSIONS
from torch import nn

import pairfuse as pf
from pairfuse.decisions import Decision, Estimate, Isotonic, Platt

CALIBRATIONS = {"platt": Platt(1.3, -0.2), "isotonic": Isotonic((-2.0, -0.5, 0.1, 0.4), (-3.0, -1.0, -1.0, 2.0))}
LENGTHS = {"x1": 1, "x2": 1}
BATCHES = [(1, 4, 4), (2, 5, 3), (7, 2, 9), (300, 3, 1)]  # pairs, and the lengths of the two sides


class Texts(nn.Module):
    """Token ids and masks `(B, L)` to embeddings: a masked mean."""

    def __init__(self, width=4):
        super().__init__()
        self.tokens = nn.Embedding(50, 8)
        self.last = nn.Linear(8, width)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).to(self.tokens.weight)
        return self.last((self.tokens(input_ids) * mask).sum(1) / mask.sum(1))


class Series(nn.Module):
    """A tensor `(B, L, 3)` to embeddings: a mean over the length, of any length."""

    def __init__(self, width=4):
        super().__init__()
        self.last = nn.Linear(3, width)

    def forward(self, x):
        return self.last(x).relu().mean(1)


def texts(items, length, seed=0):
    """A batch of token ids with masks; each text has at least one token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(50, (items, length), generator=generator)
    ends = torch.randint(1, length + 1, (items, 1), generator=generator)
    return {"input_ids": ids, "attention_mask": (torch.arange(length) < ends).long()}


def decision(calibration="platt", threshold=0.0):
    """A decision that was made by hand."""
    return Decision(threshold, {"far": 0.01}, Estimate(0.01), Estimate(0.9), CALIBRATIONS[calibration], prior=0.2)


def comparator(fusion="symmetric", head="linear", *, tied=True, calibration="platt", encoder=Texts):
    """A comparator of texts with a decision, whose threshold is among its scores."""
    spec = FUSIONS.get(fusion, fusion) if isinstance(fusion, str) else fusion
    spec = spec(4) if callable(spec) else spec
    right = None if tied else encoder()
    model = pf.SiameseComparator(
        encoder(), spec, head, right_encoder=right, embedding_dim=4, allow_additive=True
    ).eval()
    with torch.no_grad():
        model.embedding_scale.fill_(1.7)
        if encoder is Texts:
            model.decision = decision(calibration, model(texts(64, 5), texts(64, 4, seed=1)).median().item())
    return model


def apart(model, x1, x2):
    """True for the pairs whose score is not within rounding of the threshold, where any answer is right."""
    with torch.no_grad():
        return (model(x1, x2) - model.decision.threshold).abs() > 1e-4


def cross(firsts, seconds, names=("fusion", "head"), *, quick):
    """Parametrize with each of the first and the second in turn; those that are not `quick` are slow."""
    pairs = dict.fromkeys([*quick, *zip(firsts, itertools.cycle(seconds), strict=False)])
    return pytest.mark.parametrize(
        names, [pytest.param(*pair, marks=[] if pair in quick else [pytest.mark.slow]) for pair in pairs]
    )


def session_of(path):
    import onnxruntime  # else all tests of this file's readers would need it

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_onnx(path, **inputs):
    """The outputs of an ONNX file; nested inputs are given by their joined names."""
    feeds = {}
    for name, value in inputs.items():
        parts = {f"{name}_{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        feeds.update({key: part.numpy(force=True) for key, part in parts.items()})
    return [torch.from_numpy(output) for output in session_of(path).run(None, feeds)]
