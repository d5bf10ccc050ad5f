"""Damaged files: whatever is in them, an error of ours names the file, or a model loads."""

import copy
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saving.saved_models import ISOTONIC, PLATT, WIDTH, compare
from torch import nn

import pairfuse as pf

VALUES = st.one_of(
    st.sampled_from([None, True, False, "", 0, 1, -1, 4, 8, 10**12, 2**63, 10**40, 1e-8, 1e400, [], {}, "Linear"]),
    st.sampled_from(["product", "Stack", "vision_encoder", "Sequential", "float16", "../config.json", "/etc/hosts"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Saved models, each with its config and the bytes of its weights."""
    wrapped = pf.fusions.PowerNormalized(pf.make_fusion(["low-rank-bilinear", "cosine", "symmetric"], WIDTH))
    head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3), nn.BatchNorm1d(3), nn.GELU(), nn.Linear(3, 1))
    models = [
        compare(nn.Linear(WIDTH, WIDTH), wrapped, "mlp", calibration=ISOTONIC),
        compare(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout()), "product", head, right_encoder=nn.Linear(WIDTH, WIDTH)
        ),
        compare(nn.Identity(), pf.fusions.Bilinear(WIDTH, symmetric=True), "linear", calibration=PLATT),
    ]
    found = []
    for i, model in enumerate(models):
        folder = tmp_path_factory.mktemp(f"model-{i}")
        model.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        found.append((folder, config, (folder / "model.safetensors").read_bytes()))
    return found


def paths(tree, at=()):
    """The way to every value of a tree."""
    yield at
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        yield from paths(value, (*at, key))


def changed(tree, path, how, value):
    """A copy of a tree with one value replaced, left out or added."""
    if not path:
        return value
    tree = copy.deepcopy(tree)
    target = tree
    for key in path[:-1]:
        target = target[key]
    if how == "drop":
        del target[path[-1]]
    elif how == "add" and isinstance(target, dict):
        target[f"{path[-1]}2"] = value
    else:
        target[path[-1]] = value
    return tree


def load_or_refuse(folder):
    """Load a model that may be damaged."""
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = pf.SiameseComparator.from_pretrained(folder)
    except (ValueError, OSError, TypeError) as error:
        refusal = error
    else:
        assert not any(tensor.is_meta for tensor in model.state_dict().values())
        return
    part_missing = isinstance(refusal, TypeError) and "from_pretrained expects" in str(refusal)
    assert str(folder) in str(refusal) or part_missing, refusal
    assert torch.equal(torch.get_rng_state(), state)


def try_a_config(folders, data):
    folder, config, weights = data.draw(st.sampled_from(folders))
    (folder / "model.safetensors").write_bytes(weights)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(paths(config))))
        config = changed(config, path, data.draw(st.sampled_from(["set", "drop", "add"])), data.draw(VALUES))
    (folder / "config.json").write_text(json.dumps(config))
    load_or_refuse(folder)


@given(data=st.data())
def test_any_config(folders, data):
    """Values changed, fields left out or added, anywhere."""
    try_a_config(folders, data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(data=st.data())
def test_any_config_thoroughly(folders, data):
    try_a_config(folders, data)


@given(data=st.data())
def test_any_weights(folders, data):
    """Bytes cut off, or changed in the header."""
    folder, config, weights = data.draw(st.sampled_from(folders))
    (folder / "config.json").write_text(json.dumps(config))
    content = bytearray(weights[: data.draw(st.sampled_from([len(weights), len(weights) // 2]))])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    load_or_refuse(folder)
