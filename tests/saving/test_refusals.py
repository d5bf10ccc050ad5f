"""What cannot be saved or loaded is refused, with one clear error."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from saving.saved_models import PLATT, WIDTH, OwnEncoder, OwnHead, compare
from torch import nn

import pairfuse as pf
from pairfuse.saving import files

load = pf.SiameseComparator.from_pretrained


@pytest.fixture
def folder(tmp_path):
    """A saved model with an encoder of a user's own, and a decision."""
    compare(OwnEncoder(), "bilinear", calibration=PLATT).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def edit(folder):
    """Change the config of the saved model."""

    def change(**fields):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        for name, value in fields.items():
            *parents, last = name.split("__")
            target = config
            for parent in parents:
                target = target[parent]
            target[last] = value
        path.write_text(json.dumps(config))

    return change


def refused(folder, words, error=ValueError, **given):
    with pytest.raises(error, match=words):
        load(folder, **{"encoder": OwnEncoder(), **given})


def test_no_folder(tmp_path):
    refused(tmp_path / "none", "expects a folder, or a repository of the Hub such as", FileNotFoundError)
    refused(tmp_path, r"has no config.json: it is not the folder of a saved model, or saving was", FileNotFoundError)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="save_pretrained expects a folder, got the file"):
        compare(OwnEncoder(), "product").save_pretrained(tmp_path / "file")


def test_a_missing_file(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"has no model\.safetensors", FileNotFoundError)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1', "\x00", "[" * 100_000, '{"format": NaN}', "1" * 5000])
def test_a_config_that_is_not_json(text, folder):
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json is not valid JSON, it may be truncated")


def test_a_config_that_is_not_utf8(folder):
    (folder / "config.json").write_bytes(b'{"format": "\xff"}')
    refused(folder, r"config\.json is not valid JSON")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"a"'])
def test_a_config_that_is_no_mapping(text, folder):
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json: the file must be a mapping of fields, got \w+")


def test_a_config_that_is_nested_deeply(edit, folder):
    fusion = {"type": "product", "options": {"in_features": WIDTH}}
    for _ in range(230):
        fusion = {"type": "Stack", "options": {"parts": [fusion]}}
    edit(comparator__fusion={**fusion, "dtype": None})
    refused(folder, r"config\.json: (fusion is nested too deeply|fusion\.options has a wrong value)")


def test_formats(edit, folder):
    edit(format=2, unheard_of=1)
    refused(folder, r"is of format 2, which a newer pairfuse has written, and this one reads format 1: upgrade")
    edit(format=True)
    refused(folder, r"config\.json: format must be 1, got True")


@pytest.mark.parametrize(
    "field",
    [*("new", "comparator__new", "comparator__fusion__new", "comparator__fusion__options__new"), "decision__new"],
)
def test_unknown_fields(field, edit, folder):
    edit(**{field: 1})
    refused(folder, r"config\.json: .* has unknown fields: new\. It may be from a newer version of pairfuse")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("comparator__fusion__type", "bilineer", "unknown type 'bilineer': did you mean 'bilinear'"),
        ("comparator__fusion__type", "os.system", "unknown type 'os.system': The names are"),
        ("comparator__fusion__type", 3, r"fusion\.type must be a string, got 3"),
        ("comparator__fusion__type", "Linear", r"fusion\.options has unknown fields"),
        ("comparator__fusion__options", [], r"fusion\.options must be a mapping, got \[\]"),
        (
            "comparator__fusion__options__in_features",
            "4",
            r"fusion\.options has a wrong value: .* to be an int, got '4'",
        ),
        ("comparator__fusion__options__out_features", 10**12, "out_features must be at most 16777216"),
        ("comparator__fusion__dtype", "int8", r"fusion\.dtype must be null or one of float16, .*, got 'int8'"),
        ("comparator__fusion__dtype", [], r"fusion\.dtype must be null or one of"),
        ("comparator__head", {"type": "Identity", "options": {}, "dtype": None}, "false for a head without param"),
        ("comparator__fusion", {"type": "ReLU", "options": {}, "dtype": None}, "fusion must be a fusion, got ReLU"),
        ("comparator__joint_pass", 1, r"comparator\.joint_pass must be true or false, got 1"),
        ("comparator__item_ndim", -1, r"comparator\.item_ndim must be a whole number of at least 0, got -1"),
        ("comparator__class", None, r"comparator\.class must be a string, got None"),
        ("decision__threshold", "high", "a decision's threshold must be a number, got 'high'"),
        ("decision__comparison", "Product", "the decision is of 'Product', not of this model's comparison"),
    ],
)
def test_wrong_values(field, value, words, edit, folder):
    edit(**{field: value})
    refused(folder, rf"config\.json: .*{words}")


def test_other_widths_than_those_of_the_weights(edit, folder):
    """They are compared with the file before anything is allocated."""
    edit(comparator__fusion__options__in_features=2**24, comparator__fusion__options__in2_features=2**24)
    refused(folder, r"config\.json and the saved weights differ\. Of another shape: fusion.weight \(1, 16777216, 16777")
    edit(comparator__head__options__in_features=10**12, comparator__fusion__options__out_features=1)
    refused(folder, r"config\.json: head expects 1000000000000 features")


def test_another_dtype_than_that_of_the_weights(edit, folder):
    edit(comparator__fusion__dtype="float16")
    refused(folder, r"differ\. Of another dtype: fusion\.weight float16, in the file float32, fusion\.bias float16")


def test_an_option_that_the_weights_contradict(tmp_path):
    """The fusion in the weights says what it is, too."""
    compare(nn.Linear(WIDTH, WIDTH), "cosine").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"eps": 1e-08', '"eps": 0.1'))
    refused(tmp_path, r"model\.safetensors: the state is of Cosine\(.*eps=1e-08", encoder=None)


@pytest.mark.parametrize("part", ["start", "header", "middle", "end"])
def test_weights_that_are_cut_off(part, folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: {"start": 0, "header": 40, "middle": len(content) // 2, "end": -1}[part]])
    refused(folder, r"model\.safetensors is not a file of safetensors, or it is truncated")


def test_weights_of_something_else(folder):
    torch.save({"weight": torch.ones(3)}, folder / "model.safetensors")
    refused(folder, r"model\.safetensors is not a file of safetensors")
    save_file({"weight": torch.ones(3)}, folder / "model.safetensors")
    refused(folder, r"the encoder that was passed and the saved weights differ\. Not in the file: encoder\.shift, ")


def test_the_file_may_not_lead_out_of_its_folder(folder, tmp_path):
    """By a link; a config has no file names. The links of the Hub's cache are fine."""
    (tmp_path / "elsewhere").mkdir()
    for name in ("config.json", "model.safetensors"):
        place = tmp_path / "elsewhere" / name
        (folder / name).rename(place)
        (folder / name).symlink_to(place)
        refused(folder, rf"{re.escape(name)} is a link that leads out of its folder")
        (folder / name).unlink()
        place.rename(folder / name)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert load(link, encoder=OwnEncoder()).decision is not None


def test_an_encoder_that_is_not_passed(folder):
    words = r"from_pretrained expects encoder=\.\.\., since a file cannot rebuild it: it was OwnEncoder with 34 param"
    refused(folder, words, TypeError, encoder=None)


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (
            OwnEncoder(hidden=5),
            r"Of another shape: encoder\.into\.weight \(5, 4\), in the file \(3, 4\), encoder\.into\.",
        ),
        (OwnEncoder().double(), r"Of another dtype: encoder\.shift float64, in the file float32"),
        (
            nn.Linear(4, 4),
            r"Not in the file: encoder\.weight, encoder\.bias; only in the file: encoder\.again\.bias, .*",
        ),
        (nn.Identity(), r"Only in the file: encoder\.again\.bias, .* encoder\.out\.weight and 1 more"),
    ],
)
def test_an_encoder_that_differs(encoder, words, folder):
    """The error lists what differs, five names of each kind."""
    before = [parameter.clone() for parameter in encoder.parameters()]
    refused(folder, rf"the encoder that was passed and the saved weights differ\. {words}", encoder=encoder)
    assert all(map(torch.equal, before, encoder.parameters()))


def test_other_parts_that_differ(folder, tmp_path):
    refused(folder, "the head that was passed and the saved weights differ", head=OwnHead(1))
    encoder = OwnEncoder()
    before = encoder.into.weight.clone()
    refused(folder, "state is of Bilinear", fusion=pf.fusions.Bilinear(WIDTH, symmetric=True), encoder=encoder)
    assert torch.equal(encoder.into.weight, before)
    refused(folder, "expects no right_encoder, since the saved model has one", right_encoder=nn.Linear(4, 4))
    refused(folder, "expects fusion to be a Fusion, got Linear", TypeError, fusion=nn.Linear(4, 4))
    refused(folder, "expects fusion to be an nn.Module, got 'bilinear'", TypeError, fusion="bilinear")
    refused(folder, "expects encoder to be an nn.Module", TypeError, encoder=OwnEncoder)
    with pytest.raises(TypeError, match="unexpected keyword argument 'encodr'"):
        load(folder, encodr=OwnEncoder())


def test_what_cannot_be_saved(tmp_path):
    """A lazy layer, weights without values, a sparse weight, an extra state that is not a tensor."""

    def refuses(words, encoder):
        with pytest.raises(ValueError, match=words):
            pf.SiameseComparator(encoder, "product", embedding_dim=4).save_pretrained(tmp_path / "model")
        assert not (tmp_path / "model" / "config.json").exists()

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    sparse = nn.Module()
    sparse.register_buffer("weight", torch.eye(4).to_sparse())
    refuses("save_pretrained expects layers that know their width", nn.LazyLinear(4))
    refuses(r"expects tensors with values, got embedding_scale on the meta device", nn.Linear(4, 4, device="meta"))
    refuses(r"has only ordinary tensors, got encoder\.weight of Tensor, torch\.sparse_coo", sparse)
    refuses(r"has only tensors, got dict as encoder\._extra_state", Extra(4, 4))


def test_a_decision_of_a_head_that_was_replaced(tmp_path):
    model = compare(nn.Linear(4, 4), "product", calibration=PLATT)
    model.head = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="decision must be of this model's fusion and head"):
        model.save_pretrained(tmp_path)


def test_a_decision_that_json_cannot_hold(tmp_path):
    model = compare(nn.Linear(4, 4), "product", calibration=PLATT)
    model.decision = replace(model.decision, threshold=float("inf"))
    with pytest.raises(ValueError, match="a decision's threshold must be a finite number, got inf"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_saving_that_is_interrupted(at, tmp_path, monkeypatch):
    """At any moment the folder holds the old model, or none that can be loaded; never a mixture."""
    old, new = (compare(nn.Linear(4, 4), name) for name in ("squared-diff", "product"))
    old.save_pretrained(tmp_path)
    calls, move = [], files.os.replace

    def interrupt(*paths):
        if len(calls) == at - 1:
            raise KeyboardInterrupt
        calls.append(paths)
        move(*paths)

    monkeypatch.setattr(files.os, "replace", interrupt)
    if at == 0:
        monkeypatch.setattr("safetensors.torch.save_file", _raise)
    with pytest.raises(KeyboardInterrupt):
        new.save_pretrained(tmp_path)
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    if at == 0:
        assert torch.equal(load(tmp_path).encoder.weight, old.encoder.weight)
    else:
        refused(tmp_path, r"has no config\.json: .* saving was interrupted", FileNotFoundError, encoder=None)
    new.save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path).encoder.weight, new.encoder.weight)


def _raise(*_):
    raise KeyboardInterrupt


def test_views_and_memory_that_is_shared(tmp_path):
    """Each tensor is written with its own values only."""
    encoder = nn.Linear(4, 4)
    base = torch.randn(10, 4)
    encoder.weight = nn.Parameter(base[:4].T)
    encoder.register_buffer("other", encoder.weight.data)
    encoder.register_buffer("rows", base[:3])
    encoder.register_buffer("more_rows", base[2:5])
    encoder.register_buffer("negative", torch._neg_view(torch.randn(4)))
    encoder.register_buffer("conjugate", torch.randn(4, dtype=torch.complex64).conj())
    compare(encoder, "product").save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    for name in ("weight", "other", "rows", "more_rows", "negative", "conjugate"):
        assert torch.equal(found[f"encoder.{name}"], getattr(encoder, name))
    assert (tmp_path / "model.safetensors").stat().st_size < 3000


def test_a_decision_of_another_head(tmp_path):
    """A head that is passed may have the same shapes, and other scores than those that were decided on."""
    model = compare(
        nn.Linear(WIDTH, WIDTH), "product", head=nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(), nn.Linear(3, 1))
    )
    model.decision = replace(compare(OwnEncoder(), "product", calibration=PLATT).decision, comparison=model.comparison)
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"(?s)has a decision on the scores of Product.*ReLU.*got head that make it.*Tanh"
    ):
        load(tmp_path, head=nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, 1)))
    assert (
        load(tmp_path, head=nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(), nn.Linear(3, 1))).decision == model.decision
    )
