"""Each bad input of `AllPairsLoss` has one clear error."""

import pytest
import torch
from torch import nn

import pairfuse as pf
from pairfuse.losses import AllPairsLoss

MODEL = pf.SiameseComparator(nn.Linear(8, 4), "product")
UNTIED = pf.SiameseComparator(nn.Linear(8, 4), "product", right_encoder=nn.Linear(6, 4))
U = torch.randn(6, 4)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])

OPTIONS = [
    (lambda: AllPairsLoss(nn.Linear(3, 1)), TypeError, "model to be a SiameseComparator, got Linear"),
    (lambda: AllPairsLoss(nn.DataParallel(MODEL)), TypeError, "pass the comparator inside it, model.module"),
    (lambda: AllPairsLoss(MODEL, objective="triplet"), ValueError, "unknown objective 'triplet'"),
    (lambda: AllPairsLoss(MODEL, objective="bce", margin=1.0), ValueError, "margin with objective='margin' only"),
    (lambda: AllPairsLoss(MODEL, objective="bce", negatives="all"), ValueError, "negatives with objective='margin'"),
    (lambda: AllPairsLoss(MODEL, objective="margin", margin=0), ValueError, "margin to be above 0 and finite, got 0"),
    (lambda: AllPairsLoss(MODEL, objective="margin", negatives="hard"), ValueError, "unknown kind of negatives 'hard'"),
    (lambda: AllPairsLoss(MODEL, max_bytes=0), ValueError, "max_bytes to be at least 1, got 0"),
]
INPUTS = [
    ((U.tolist(), LABELS), TypeError, "embeddings to be a tensor"),
    ((U.long(), LABELS), TypeError, "floating-point embeddings, got dtype torch.int64"),
    (
        (torch.randn(6, 3), LABELS),
        ValueError,
        r"of shape \(B, 4\), as model.encode returns them, got \(6, 3\)",
    ),
    ((U[:, None], LABELS), ValueError, r"embeddings of shape \(B, 4\)"),
    ((U.double(), LABELS), ValueError, r"got embeddings of torch.float64 .* as in embeddings.float\(\)"),
    ((U, LABELS.tolist()), TypeError, "labels to be a tensor"),
    ((U, LABELS.float()), TypeError, r"labels to be integers, got dtype torch.float32: use labels.long\(\)"),
    ((U, LABELS[:5]), ValueError, r"labels of shape \(6,\), one for each of the embeddings, got shape \(5,\)"),
    ((U, LABELS[:, None]), ValueError, r"labels of shape \(6,\)"),
    (
        (U, torch.arange(6)),
        ValueError,
        "two items with one label, got 6 labeled items of 6 identities",
    ),
    (
        (U, torch.zeros(6, dtype=torch.int64)),
        ValueError,
        "two identities, got 6 labeled items of one identity",
    ),
    ((U, torch.full((6,), -1)), ValueError, "a positive pair, two items with one label, got 0 labeled items"),
    ((U, LABELS, None, LABELS), ValueError, "embeddings2 with labels2, got labels2 alone"),
    ((U, LABELS, U[:4]), ValueError, "got 6 embeddings and 4 embeddings2 without labels2"),
    ((U, LABELS, U[:4], LABELS), ValueError, r"labels2 of shape \(4,\), one for each of the embeddings2"),
    ((U, LABELS, U[:4], LABELS[:4] + 7), ValueError, "and 4 others, of which none has the label of a left one"),
    ((U[:2], LABELS[:2], U[:4], LABELS[:4] * 0), ValueError, "two identities"),
]


@pytest.mark.parametrize(("make", "kind", "words"), OPTIONS)
def test_options(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize(("given", "kind", "words"), INPUTS)
def test_inputs(given, kind, words):
    with pytest.raises(kind, match=words):
        AllPairsLoss(MODEL)(*given)


def test_two_encoders_need_both_embeddings():
    with pytest.raises(ValueError, match=r"loss\(model.encode\(x\), labels, model.encode\(x, side='right'\)\)"):
        AllPairsLoss(UNTIED)(U, LABELS)


def test_several_outputs():
    model = pf.SiameseComparator(nn.Linear(8, 4), "product", nn.Linear(4, 2))
    with pytest.raises(ValueError, match="a head with one output, got 2"):
        AllPairsLoss(model)(U, LABELS)


def test_a_batch_norm_on_batch_statistics():
    head = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1)).eval()
    with pytest.raises(ValueError, match="track_running_stats=False"):
        AllPairsLoss(pf.SiameseComparator(nn.Linear(8, 4), "product", head).eval())(U, LABELS)


def test_no_process_group():
    with pytest.raises(RuntimeError, match="expects a process group, got none"):
        AllPairsLoss(MODEL, distributed=True)(U, LABELS)
