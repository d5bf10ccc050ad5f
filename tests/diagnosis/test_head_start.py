"""The probe `head-start`: thresholds and scales that a head cannot reach in the steps that people take."""

import pytest
import torch
from clinic.faulty_start import _comparator, _embeddings
from torch import nn

import pairfuse as pf


def probe(model, x1, x2, y, **options):
    return pf.diagnose(model, x1, x2, y, **options)["head-start"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("fusion", "size", "words"),
    [
        ("cosine", 1.0, "its bias cannot move as far as the threshold in 300 steps"),
        ("product", 1e-4, "so small that 300 steps can hardly change a logit"),
        ("symmetric", 1e4, "so large that one step can overturn all logits"),
    ],
)
def test_a_start_out_of_reach_is_reported_and_start_head_fixes_it(fusion, size, words):
    model, pairs = _comparator(fusion), _embeddings(size)
    finding = probe(model, *pairs)
    assert finding.verdict == "warn"
    assert words in finding.summary
    assert finding.advice == "Call model.start_head(x1, x2, y) with one batch before training."
    model.start_head(*pairs)
    assert probe(model, *pairs).verdict == "ok"


def test_the_learning_rate_of_the_optimizer_counts():
    model, pairs = _comparator("cosine"), _embeddings(1.0)
    fast = torch.optim.AdamW(model.parameters(), lr=0.1)
    assert probe(model, *pairs, optimizer=fast).verdict == "ok"


def test_an_encoder_that_learns_may_change_its_embeddings():
    model = pf.SiameseComparator(nn.Linear(32, 32), "product")
    skipped = pf.diagnose(model, *_embeddings(1e-4)).skipped
    assert skipped["head-start"] == "the encoder learns, so the embeddings change"


def test_a_head_of_your_own_gets_other_advice():
    head = nn.Linear(1, 1)
    with torch.no_grad():
        head.weight.fill_(6)
        head.bias.fill_(0)
    model = pf.SiameseComparator(nn.Identity(), "cosine", head, embedding_dim=32)
    finding = probe(model, *_embeddings(1.0))
    assert finding.verdict == "warn"
    assert finding.advice.startswith("Set the bias of the head")


def test_it_needs_targets_of_both_kinds_and_a_linear_end():
    x1, x2, y = _embeddings(1.0)
    model = _comparator("cosine")
    assert pf.diagnose(model, x1, x2).skipped["head-start"] == "no targets were given"
    assert pf.diagnose(model, x1, x2, y * 0).skipped["head-start"] == "the targets of these pairs are all the same"
    call = lambda a, b: model(a, b)  # noqa: E731
    assert "not a SiameseComparator whose head ends in a linear" in pf.diagnose(call, x1, x2, y).skipped["head-start"]
