"""Progress bars."""

from collections.abc import Iterable
from typing import Any, TypeVar

from pairfuse._checks import require_package

T = TypeVar("T")


def show_progress(steps: Iterable[T], description: str, total: int | None) -> Iterable[T]:
    """Return the steps with a progress bar of tqdm. The ImportError without tqdm shows how to install it."""
    bar: Any = require_package("tqdm.auto", "progress").tqdm
    return bar(steps, desc=description, total=total)  # type: ignore[no-any-return]
