"""What some tests need and not every machine has."""

import os
from typing import NoReturn

import pytest


def skip_for_want_of(what: str) -> NoReturn:
    """Skip a test with the reason; fail it where PAIRFUSE_REQUIRE_BROWSER is set, so that nobody skips in silence."""
    if os.environ.get("PAIRFUSE_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and PAIRFUSE_REQUIRE_BROWSER is set", pytrace=False)
    pytest.skip(what)
