"""An inner-product form in a file. That its vectors are the same in a new process is in `test_round_trip.py`."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from saving.saved_models import WIDTH, OwnFusion, compare
from torch import nn

from pairfuse.fusions import Separable
from pairfuse.scoring import InnerProductForm


class OwnSeparable(Separable):
    """`w ∘ u ∘ v`."""

    symmetry, xnor = "symmetric", "generic"

    def __init__(self, in_features, secret):
        super().__init__(in_features)
        self.weight = nn.Parameter(torch.full((in_features,), secret))

    def left(self, u):
        return (self.weight * u,)

    def right(self, v):
        return (v,)


def test_what_is_loaded_is_a_snapshot(tmp_path):
    """In eval mode and frozen, as the form that was saved."""
    form = compare(nn.Linear(WIDTH, WIDTH), "bilinear").inner_product_form()
    form.save(tmp_path / "form")
    loaded = InnerProductForm.load(tmp_path / "form")
    assert not any(parameter.requires_grad for parameter in loaded.fusion.parameters())
    assert not loaded.fusion.training
    assert repr(loaded.fusion) == repr(form.fusion)
    assert [path.name for path in tmp_path.iterdir()] == ["form"]


def test_a_fusion_of_a_users_own_is_passed(tmp_path):
    form = compare(nn.Linear(WIDTH, WIDTH), OwnSeparable(WIDTH, 3.0)).inner_product_form()
    form.save(tmp_path / "form")
    with pytest.raises(
        TypeError, match=r"load expects fusion=\.\.\., since a file cannot rebuild it: it was OwnSeparable"
    ):
        InnerProductForm.load(tmp_path / "form")
    given = OwnSeparable(WIDTH, 1.0)
    loaded = InnerProductForm.load(tmp_path / "form", fusion=given)
    u = torch.randn(3, WIDTH)
    assert torch.equal(loaded.to_query(u), form.to_query(u))
    assert torch.equal(given.weight, torch.ones(WIDTH))
    with pytest.raises(ValueError, match="the fusion and the saved weights differ"):
        InnerProductForm.load(tmp_path / "form", fusion=OwnFusion(5, 2))


def change(path, config=None, **tensors):
    """Write a form again, with another config or other tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["inner_product_form"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = config if isinstance(config, str) else json.dumps({**metadata, **(config or {})})
    state = {name: value for name, value in {**state, **tensors}.items() if value is not None}
    save_file(state, path, {"inner_product_form": text})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "{"}, "is not valid JSON"),
        ({"config": "[]"}, "the form must be a mapping"),
        ({"config": {"format": 2}}, "is of format 2, which a newer pairfuse has written"),
        ({"config": {"new": 1}}, "the form has unknown fields: new"),
        ({"config": {"fusion": {"type": "Linear", "options": {}, "dtype": None}}}, "options has a wrong value"),
        (
            {"config": {"fusion": {"type": "Flatten", "options": {}, "dtype": None}}},
            "fusion must be a fusion, got Flatten",
        ),
        ({"weight": torch.ones(1, 3)}, r"Of another shape: weight \(1, 1\), in the file \(1, 3\)"),
        ({"weight": torch.ones(1, 1, dtype=torch.int64)}, r"Of another dtype: weight float32, in the file int64"),
        ({"constant": None}, "Not in the file: constant"),
        ({"more": torch.ones(1)}, "Only in the file: more"),
        ({"scale": torch.ones(2)}, r"Of another shape: scale \(\), in the file \(2,\)"),
    ],
)
def test_damaged_files(changes, words, tmp_path):
    path = tmp_path / "form"
    compare(nn.Linear(WIDTH, WIDTH), "bilinear").inner_product_form().save(path)
    change(path, **changes)
    with pytest.raises(ValueError, match=words) as error:
        InnerProductForm.load(path)
    assert str(path) in str(error.value)


def test_other_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"load expects the file of an inner-product form, got .*: there is none"
    ):
        InnerProductForm.load(tmp_path / "none")
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"other is not the file of an inner-product form, as form\.save"):
        InnerProductForm.load(tmp_path / "other")
    (tmp_path / "cut").write_bytes(b"")
    with pytest.raises(ValueError, match="cut is not a file of safetensors, or it is truncated"):
        InnerProductForm.load(tmp_path / "cut")
