"""A model that is saved and loaded answers the same, bit for bit, also in another process."""

import builtins
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from saving.saved_models import (
    PLATT,
    WIDTH,
    OwnEncoder,
    OwnFusion,
    OwnHead,
    all_forms,
    all_models,
    answers,
    compare,
    own_parts,
    vectors,
)
from torch import nn

import pairfuse as pf

TESTS = Path(__file__).parent.parent
load = pf.SiameseComparator.from_pretrained


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Every model and form in a folder, and what each model answers."""
    folder, due = tmp_path_factory.mktemp("models"), {}
    for i, (name, (model, own)) in enumerate(all_models().items()):
        path = folder / f"{i:03}"
        model.save_pretrained(path)
        (path / "own.txt").write_text(" ".join(own))
        due[path] = name, model, answers(model)
    forms = {folder / f"{name}.form": form for name, form in all_forms().items()}
    for path, form in forms.items():
        form.save(path)
    return folder, due, forms


def test_all_answers_are_the_same_in_a_new_process(saved):
    """All registered fusions with every option, stacks, wrappers, heads, tied and untied, decisions, dtypes; forms."""
    folder, due, forms = saved
    path = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, str(TESTS / "saving" / "saved_models.py"), str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    assert len(due) >= 90
    for path, (name, _, answer) in due.items():
        found = load_file(path / "answers.safetensors")
        assert found.keys() == answer.keys()
        assert all(torch.equal(found[key], answer[key]) for key in answer), name
    assert len(forms) > 20
    for path, form in forms.items():
        found, answer = load_file(path.with_suffix(".vectors")), vectors(form)
        assert all(torch.equal(found[key], answer[key]) for key in answer), path.name


def test_what_is_loaded_is_what_was_saved(saved):
    """The same parts, state, decision and options; it can be saved again, to the same files."""
    for path, (name, model, _) in saved[1].items():
        own = (path / "own.txt").read_text().split()
        given = {part: made for part, made in own_parts().items() if part in own}
        before = torch.get_rng_state()
        loaded = load(path, **given)
        assert torch.equal(torch.get_rng_state(), before)
        assert repr(loaded) == repr(model), name
        assert repr(loaded.decision) == repr(model.decision)  # NaN does not equal itself
        state = model.state_dict()
        assert state.keys() == loaded.state_dict().keys()
        assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
        again = path.parent.parent / "again"
        loaded.save_pretrained(again)
        for file in ("config.json", "model.safetensors"):
            assert (again / file).read_bytes() == (path / file).read_bytes(), name


def test_only_what_is_a_users_own_has_to_be_passed(saved):
    for path, (name, _, _) in saved[1].items():
        assert ('"own"' in (path / "config.json").read_text()) == ("own" in name), name


def test_nothing_is_pickled(tmp_path, monkeypatch):
    """No function of pickle runs, and no written byte begins a pickle."""

    def refuse(*_, **__):
        raise AssertionError("pickled")

    for module, names in ((pickle, ("dump", "dumps", "load", "loads")), (torch, ("save", "load"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    for name in ("Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(builtins, "eval", refuse)
    monkeypatch.setattr(builtins, "exec", refuse)
    compare(nn.Linear(WIDTH, WIDTH), ["bilinear", "squared-diff"], calibration=PLATT).save_pretrained(tmp_path)
    load(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for name in ("config.json", "model.safetensors"):
        content = (tmp_path / name).read_bytes()
        assert content[:1] != b"\x80"
        assert content[:2] != b"PK"  # the archive of torch.save
        assert b"pickle" not in content
    sources = [file.read_text() for file in (Path(pf.__file__).parent / "saving").glob("*.py")]
    assert not any(f"import {module}" in text for text in sources for module in ("pickle", "importlib", "dill"))


def test_shared_weights_are_written_once(tmp_path):
    """Within an encoder of a user's own they are shared after loading, too."""
    compare(OwnEncoder(), "product").save_pretrained(tmp_path)
    assert "encoder.again.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = load(tmp_path, encoder=OwnEncoder())
    assert loaded.encoder.again.weight is loaded.encoder.into.weight


def test_layers_that_are_shared_have_to_be_passed(tmp_path):
    """Within one part and between two: built from a description, they would be apart."""
    layer = nn.Linear(WIDTH, WIDTH)
    compare(nn.Sequential(layer, nn.ReLU(), layer), "product").save_pretrained(tmp_path / "one")
    with pytest.raises(TypeError, match=r"expects encoder=\.\.\., since .* it was Sequential with 20 parameters"):
        load(tmp_path / "one")
    twins = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    twins[2].weight = twins[0].weight
    compare(twins, "product").save_pretrained(tmp_path / "twins")
    with pytest.raises(TypeError, match=r"expects encoder="):
        load(tmp_path / "twins")
    right = nn.Sequential(layer, nn.Tanh())
    model = compare(nn.Sequential(layer), "product", right_encoder=right)
    model.save_pretrained(tmp_path / "two")
    with pytest.raises(TypeError, match=r"expects encoder="):
        load(tmp_path / "two")
    other = nn.Linear(WIDTH, WIDTH)
    encoders = {"encoder": nn.Sequential(other), "right_encoder": nn.Sequential(other, nn.Tanh())}
    loaded = load(tmp_path / "two", **encoders)
    assert torch.equal(answers(loaded)["logits"], answers(model)["logits"])


@pytest.mark.parametrize("change", ["hook", "patch", "attribute"])
def test_what_was_changed_by_hand_has_to_be_passed(change, tmp_path):
    """A hook, a method or an attribute that the constructor does not set is not in a description."""
    head = nn.Linear(2 * WIDTH, 1)
    if change == "hook":
        head.register_forward_hook(lambda *_: None)
    elif change == "patch":
        head.forward = lambda x: x.sum(-1)
    else:
        head.temperature = 2.0
    compare(nn.Identity(), "symmetric", head, embedding_dim=WIDTH).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"expects head=\.\.\."):
        load(tmp_path)
    load(tmp_path, head=nn.Linear(2 * WIDTH, 1))


def test_a_fusion_of_a_users_own_loads_by_its_name(tmp_path, registry_restored):
    """If it is registered again; otherwise the error says how, or it is passed."""

    def register():
        @pf.register_fusion("powered")
        class Powered(OwnFusion):
            def __init__(self, in_features, power=2, *, in2_features=None):
                super().__init__(in_features, power)
                self.power = power

        return Powered

    model = compare(nn.Linear(WIDTH, WIDTH), register()(WIDTH, 3))
    model.save_pretrained(tmp_path)
    register()
    loaded = load(tmp_path)
    assert loaded.fusion.power == 3
    assert torch.equal(answers(loaded)["logits"], answers(model)["logits"])
    pf.fusions.registry._FUSIONS.pop("powered")
    with pytest.raises(ValueError, match=r"unknown type 'powered': .* register it, or pass fusion=\.\.\."):
        load(tmp_path)
    with pytest.raises(ValueError, match="the state is of Powered"):
        load(tmp_path, fusion=OwnFusion(WIDTH, 3))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "swin_t"])
@pytest.mark.slow
def test_encoders_of_torchvision(name, tmp_path, monkeypatch):
    """They are rebuilt from their name, without a download."""
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    model = pf.SiameseComparator(pf.encoders.vision_encoder(name, 8), "product").eval()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    x1, x2 = torch.rand(2, 2, 3, 64, 64)
    assert torch.equal(loaded(x1, x2), model(x1, x2))
    assert loaded.item_ndim == 3


@pytest.mark.slow  # imports the compiler
def test_a_compiled_encoder_has_the_names_of_a_plain_one(tmp_path):
    encoder = nn.Linear(WIDTH, WIDTH)
    model = compare(torch.compile(encoder, backend="eager"), "product", embedding_dim=WIDTH)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path, encoder=nn.Linear(WIDTH, WIDTH))
    assert torch.equal(loaded.encoder.weight, encoder.weight)
    again = load(tmp_path, encoder=torch.compile(nn.Linear(WIDTH, WIDTH), backend="eager"))
    assert torch.equal(again.encoder._orig_mod.weight, encoder.weight)


@pytest.mark.slow
def test_a_compiled_model_is_saved_as_itself(tmp_path):
    model = compare(nn.Linear(WIDTH, WIDTH), "product")
    torch.compile(model, backend="eager").save_pretrained(tmp_path)
    assert torch.equal(answers(load(tmp_path))["logits"], answers(model)["logits"])


def test_the_card_says_what_it_is_and_how_it_is_loaded(tmp_path):
    """With the decision and the report; a card that was edited stays."""
    model = compare(OwnEncoder(), "product", calibration=PLATT)
    model.save_pretrained(tmp_path, report="AUC  0.97 [0.95, 0.98]")
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: pairfuse\n")
    assert f"from_pretrained({tmp_path.name!r}, encoder=...)" in card
    assert "| encoder | `OwnEncoder` with 34 parameters, to be passed to `from_pretrained` |" in card
    assert "| fusion | `product(in_features=4, in2_features=4)` |" in card
    assert str(model.decision) in card
    assert "AUC  0.97 [0.95, 0.98]" in card
    stacked = compare(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), ["product", "cosine"])
    stacked.save_pretrained(tmp_path / "stacked")
    assert (
        "| encoder | `Sequential(Linear(in_features=4, out_features=4, bias=True), Tanh())` |\n"
        "| fusion | `Stack(product(in_features=4, in2_features=4), cosine(in_features=4, in2_features=4, eps=1e-08))` |"
    ) in (tmp_path / "stacked" / "README.md").read_text()
    model.save_pretrained(tmp_path)
    assert "AUC" not in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_subclass_loads_as_itself(tmp_path):
    """And not as its parent, which may compute something else."""

    class Scaled(pf.SiameseComparator):
        def forward(self, x1, x2):
            return 2 * super().forward(x1, x2)

    Scaled(nn.Linear(WIDTH, WIDTH), "product").save_pretrained(tmp_path)
    assert type(Scaled.from_pretrained(tmp_path)) is Scaled
    with pytest.raises(ValueError, match=r"is of a Scaled: call its from_pretrained, not that of SiameseComparator"):
        load(tmp_path)


def test_own_heads_keep_their_kind(tmp_path):
    """A head that was not made by name has no start, before and after."""
    compare(nn.Identity(), "product", OwnHead(WIDTH), embedding_dim=WIDTH).save_pretrained(tmp_path)
    loaded = load(tmp_path, head=OwnHead(WIDTH))
    assert loaded.head_started is None
    with pytest.raises(TypeError, match="expects a head that was built by name"):
        pf.SiameseComparator.start_head(loaded, torch.randn(2, WIDTH), torch.randn(2, WIDTH))
