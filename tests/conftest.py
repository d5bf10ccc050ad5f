"""What every test shares: Hypothesis profiles, two threads, a registry that forgets what a test registers."""

import os
import shutil

import pytest
import torch
from hypothesis import HealthCheck, settings

from pairfuse.fusions import registry

settings.register_profile("local", deadline=None, max_examples=100)
settings.register_profile(
    "ci", deadline=None, max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "local")


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
