"""Progress bars, for those who ask for them."""

from collections.abc import Iterable
from typing import Any, TypeVar

from pairfuse._checks import require_package

T = TypeVar("T")


def show_progress(steps: Iterable[T], description: str, total: int | None) -> Iterable[T]:
    """The steps, with a bar of tqdm's; raises ImportError with the way to install it."""
    bar: Any = require_package("tqdm.auto", "progress").tqdm
    return bar(steps, desc=description, total=total)  # type: ignore[no-any-return]
