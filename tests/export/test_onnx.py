"""`to_onnx`: onnxruntime agrees with the module, for any batch size and lengths."""

import sys

import pytest
import torch
from export_cases import BATCHES, LENGTHS, Series, apart, comparator, cross, decision, run_onnx, session_of, texts
from scoring_cases import FUSIONS
from torch import nn

import pairfuse as pf

SIZES = [(2, 2), (1, 1), (1, 300), (7, 2)]  # queries and items


def close(found, due):
    assert [x.shape for x in found] == [x.shape for x in due]
    for a, b in zip(found, due, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@cross(FUSIONS, ["linear", "mlp"], quick=[("symmetric", "linear")])
def test_decider(fusion, head, tmp_path):
    """Every fusion, with both heads and calibrations, tied and untied: the answers of the model at other sizes."""
    tied, calibration = (True, "isotonic") if head == "linear" else (False, "platt")
    model, x = comparator(fusion, head, tied=tied, calibration=calibration), texts(1, 4)
    path = pf.export.to_onnx(model.decider(), tmp_path / "model.onnx", x, x, dynamic=LENGTHS)
    for pairs, left, right in BATCHES:
        x1, x2 = texts(pairs, left), texts(pairs, right, seed=1)
        probability, same = run_onnx(path, x1=x1, x2=x2)
        close([probability], [model.predict_proba(x1, x2)])
        clear = apart(model, x1, x2)
        assert torch.equal(same[clear], model.same(x1, x2)[clear])


@cross(FUSIONS, ["linear", "mlp"], quick=[("symmetric", "linear")])
def test_scorer(fusion, head, tmp_path):
    """All pairs of N and M embeddings, N and M apart, also if they are equal in the example."""
    model = comparator(fusion, head)
    path = tmp_path / "scorer.onnx"
    pf.export.to_onnx(model.search_modules().scorer, path, torch.randn(2, 4), torch.randn(2, 4))
    session = session_of(path)
    assert [x.shape for x in session.get_inputs()] == [["queries_batch", 4], ["gallery_batch", 4]]
    assert [x.shape for x in session.get_outputs()] == [["queries_batch", "gallery_batch"]]
    for n, m in SIZES:
        u, v = torch.randn(n, 4), torch.randn(m, 4)
        with torch.no_grad():
            close(run_onnx(path, queries=u, gallery=v), [model.score_embeddings(u, v)])


@pytest.mark.parametrize(
    "fusion", [pytest.param(name, marks=[] if name == "product" else [pytest.mark.slow]) for name in FUSIONS]
)
def test_a_search_by_inner_products(fusion, tmp_path):
    """Vectors of queries and of a gallery, by two encoders, have the scores as their inner products."""
    model, x = comparator(fusion, tied=False), texts(2, 4)
    if not model.fusion.fast_path:
        return
    modules = model.search_modules(inner_product=True)
    left, right = (pf.export.to_onnx(modules[i], tmp_path / f"{i}.onnx", x, dynamic={"items": 1}) for i in range(2))
    for n, m in SIZES:
        queries, items = texts(n, 5), texts(m, 3, seed=1)
        (q,), (g,) = run_onnx(left, items=queries), run_onnx(right, items=items)
        close([modules.scorer(q, g)], [model.score_matrix(queries, items)])


@pytest.mark.slow
def test_a_search_by_embeddings(tmp_path):
    """Encoders without a form, and the scorer of inner products."""
    model, x = comparator("product"), texts(2, 4)
    encoder = model.search_modules().query_encoder
    path = pf.export.to_onnx(encoder, tmp_path / "encoder.onnx", x, dynamic={"items": 1})
    close(run_onnx(path, items=texts(7, 3)), [model.encode_items(texts(7, 3))])
    scorer = model.search_modules(inner_product=True).scorer
    path = pf.export.to_onnx(scorer, tmp_path / "scorer.onnx", torch.randn(2, 4), torch.randn(2, 4))
    q, g = torch.randn(3, 4), torch.randn(5, 4)
    close(run_onnx(path, queries=q, gallery=g), [scorer(q, g)])


@pytest.mark.parametrize("fusion", [pytest.param(name, marks=[pytest.mark.slow]) for name in pf.list_fusions()])
def test_comparator(fusion, tmp_path):
    """The comparator itself: its logits, from one pass over both sides."""
    model = comparator(fusion, encoder=Series)
    path = pf.export.to_onnx(model, tmp_path / "model.onnx", torch.randn(1, 5, 3), torch.randn(1, 5, 3))
    for pairs, _, _ in BATCHES:
        x1, x2 = torch.randn(pairs, 5, 3), torch.randn(pairs, 5, 3)
        with torch.no_grad():
            close(run_onnx(path, x1=x1, x2=x2), [model(x1, x2)])


def test_names(tmp_path):
    """Inputs are named after the parameters and keys, outputs after what they are, dimensions after what varies."""
    x = texts(2, 4)
    path = pf.export.to_onnx(comparator().decider(), tmp_path / "model.onnx", x, x, dynamic=LENGTHS)
    session = session_of(path)
    assert {x.name: x.shape for x in session.get_inputs()} == {
        "x1_input_ids": ["batch", "x1_dim1"],
        "x1_attention_mask": ["batch", "x1_dim1"],
        "x2_input_ids": ["batch", "x2_dim1"],
        "x2_attention_mask": ["batch", "x2_dim1"],
    }
    assert {x.name: x.shape for x in session.get_outputs()} == {"probability": ["batch"], "same": ["batch"]}


@pytest.mark.slow
def test_images_of_any_size(tmp_path):
    """Two dimensions vary, in one tensor."""
    encoder = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    model = pf.SiameseComparator(encoder, item_ndim=3).eval()
    model.decision = decision()
    x = torch.rand(1, 3, 8, 8)
    path = pf.export.to_onnx(model.decider(), tmp_path / "m.onnx", x, x, dynamic={"x1": (2, 3), "x2": [2, 3]})
    x1, x2 = torch.rand(4, 3, 11, 6), torch.rand(4, 3, 9, 9)
    close(run_onnx(path, x1=x1, x2=x2)[:1], [model.predict_proba(x1, x2)])


def test_a_failed_export_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """No file without an ONNX form, or with wrong values, gets to the path."""

    class Sorts(nn.Module):
        out_features = 4

        def forward(self, x):
            return torch.linalg.eigvalsh(x[:, :, None] * x[:, None])  # no ONNX form

    path = tmp_path / "model.onnx"
    path.write_text("old")
    x = torch.randn(2, 4)
    with pytest.raises(ValueError, match=r"to_onnx cannot convert SiameseComparator to ONNX: No ONNX .*_linalg_eigh"):
        pf.export.to_onnx(pf.SiameseComparator(Sorts(), "product").eval(), path, x, x)
    monkeypatch.setattr("pairfuse.export.onnx._Session.__call__", lambda self, *inputs: [torch.zeros(len(inputs[0]))])
    with pytest.raises(ValueError, match=r"to_onnx made an export .* gives other values than the module"):
        pf.export.to_onnx(comparator(encoder=Series), path, torch.randn(2, 5, 3), torch.randn(2, 5, 3))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "old"


def test_a_dtype_that_onnxruntime_lacks(tmp_path):
    model, x = comparator(encoder=Series).bfloat16(), torch.randn(2, 5, 3).bfloat16()
    with pytest.raises(ValueError, match=r"operators that onnxruntime has, .* export the model in float32"):
        pf.export.to_onnx(model, tmp_path / "model.onnx", x, x)
    assert not list(tmp_path.iterdir())


def test_errors(tmp_path):
    model, x = comparator(encoder=Series), torch.randn(2, 5, 3)
    with pytest.raises(FileNotFoundError, match=r"to_onnx expects path in an existing folder, got .*missing"):
        pf.export.to_onnx(model, tmp_path / "missing" / "model.onnx", x, x)
    with pytest.raises(ValueError, match="to_onnx expects an example of each input"):
        pf.export.to_onnx(model, tmp_path / "model.onnx", x)


def test_without_onnx(monkeypatch, tmp_path):
    """The error shows the command that installs it."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnxscript is not installed: pip install 'pairfuse\[onnx\]'"):
        pf.export.to_onnx(comparator(), tmp_path / "model.onnx", texts(2, 3), texts(2, 3))
