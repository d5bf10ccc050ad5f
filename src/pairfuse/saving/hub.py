"""The Hugging Face Hub: what huggingface_hub's `ModelHubMixin` does, without being one.

The mixin is not a base class: it would be imported with pairfuse, it loads with `strict=False`, and it unpickles
`pytorch_model.bin` where a repository has no safetensors.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pairfuse._checks import require_package
from pairfuse.saving.files import CONFIG, WEIGHTS

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def fetch(source: str | Path, **options: Any) -> Path:
    """Return the folder of a saved model: `source` itself, or that of a repository in the cache of the Hub's client.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: There is no such folder, and no such repository or no way to reach it.
    """
    if Path(source).is_dir():
        return Path(source)
    missing = f"from_pretrained expects a folder, or a repository of the Hub such as 'name/model', got {str(source)!r}"
    if isinstance(source, Path) or not _REPOSITORY.fullmatch(source):
        raise FileNotFoundError(f"{missing}: there is no such folder")
    try:
        hub: Any = require_package("huggingface_hub", "hub")
    except ImportError as error:
        error.add_note(f"{missing}: there is no such folder, and a repository needs huggingface_hub")
        raise
    try:
        files = [Path(hub.hf_hub_download(source, name, **options)) for name in (CONFIG, WEIGHTS)]
    except (OSError, ValueError) as error:  # of the network, the repository and its name
        raise FileNotFoundError(f"{missing}: there is no such folder, and no such download ({error})") from error
    return files[0].parent


def push(save: Callable[[Path], None], repository: str, **options: Any) -> Any:
    """Create a repository if there is none, and upload what `save` writes into a folder, in one commit."""
    mixin: Any = require_package("huggingface_hub", "hub").ModelHubMixin
    return mixin.push_to_hub(SimpleNamespace(save_pretrained=lambda path, **_: save(path)), repository, **options)
