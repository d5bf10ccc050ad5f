"""The Hugging Face Hub, without a network: what is uploaded, and what the cache of the client holds."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from saving.saved_models import WIDTH, answers, compare
from torch import nn

import pairfuse as pf

huggingface_hub = pytest.importorskip("huggingface_hub")
load = pf.SiameseComparator.from_pretrained
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def model():
    return compare(nn.Linear(WIDTH, WIDTH), "product")


def as_cached(folder, cache):
    """Lay out a saved model as the client does: files that are links to blobs."""
    repository = cache / "models--somebody--model"
    for name in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for i, name in enumerate(("config.json", "model.safetensors")):
        shutil.copy(folder / name, repository / "blobs" / f"{i}")
        (repository / "snapshots" / COMMIT / name).symlink_to(Path("..", "..", "blobs", f"{i}"))
    return repository / "snapshots" / COMMIT


def test_a_repository_in_the_cache(model, tmp_path):
    """By its name, without a network; and by the folder that snapshot_download returns."""
    model.save_pretrained(tmp_path / "model")
    snapshot = as_cached(tmp_path / "model", tmp_path / "cache")
    loaded = load("somebody/model", cache_dir=tmp_path / "cache", local_files_only=True)
    assert torch.equal(answers(loaded)["logits"], answers(model)["logits"])
    assert load(snapshot).fusion.in_features == WIDTH


def test_an_upload(model, tmp_path, monkeypatch):
    """One commit, to a repository that is created if need be; the card loads it by its name."""
    calls = []

    class Api:
        def __init__(self, token=None):
            calls.append(token)

        def create_repo(self, repo_id, private, exist_ok):
            calls.append((repo_id, private, exist_ok))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, commit_message, **_):
            shutil.copytree(folder_path, tmp_path / "uploaded")
            return commit_message

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    done = model.push_to_hub("somebody/model", report="AUC 0.9", private=True, commit_message="first")
    assert done == "first"
    assert calls == [None, ("somebody/model", True, True)]
    card = (tmp_path / "uploaded" / "README.md").read_text()
    assert "from_pretrained('somebody/model')" in card
    assert "AUC 0.9" in card
    assert torch.equal(answers(load(tmp_path / "uploaded"))["logits"], answers(model)["logits"])


def test_a_repository_that_is_not_there(tmp_path):
    words = (
        r"expects a folder, or a repository of the Hub such as 'name/model', got 'somebody/model': there is no such f"
    )
    with pytest.raises(FileNotFoundError, match=words):
        load("somebody/model", cache_dir=tmp_path, local_files_only=True)
    for name in (tmp_path / "none", "a/b/c", "../elsewhere", "https://host/model"):
        with pytest.raises(FileNotFoundError, match=r"there is no such folder$"):
            load(name)


def test_without_the_package(model, monkeypatch):
    """Folders need no more than safetensors; a repository says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'pairfuse\[hub\]'") as error:
        load("somebody/model")
    assert "there is no such folder" in error.value.__notes__[0]
    with pytest.raises(ImportError, match=r"pip install 'pairfuse\[hub\]'"):
        model.push_to_hub("somebody/model")
