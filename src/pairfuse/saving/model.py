"""Save a comparator to a folder or the Hub, and load it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from pairfuse._checks import check_module
from pairfuse._layers import check_initialized
from pairfuse._options import written_class
from pairfuse._version import __version__
from pairfuse.decisions import Decision
from pairfuse.decisions.fields import check_fields, read_count, read_text
from pairfuse.fusions import Fusion
from pairfuse.items.tower import first_parameter
from pairfuse.saving import files
from pairfuse.saving.card import write_card
from pairfuse.saving.hub import fetch, push
from pairfuse.saving.parts import build_or_pass, describe, describe_own

FORMAT = 1
_PARTS = ("encoder", "right_encoder", "fusion", "head")
_FIELDS = ("class", *_PARTS, "joint_pass", "item_ndim", "right_item_ndim", "started", "comparison")


class Savable(nn.Module):
    """The part of a comparator that is saved and loaded."""

    decision: Decision | None
    joint_pass: bool
    item_ndim: int | None
    right_item_ndim: int | None
    head_started: Tensor | None

    @property
    def comparison(self) -> str:
        """The fusion and the head in words."""
        raise NotImplementedError

    def _register_start(self, named: bool) -> None:
        """Register the buffers of a head that was made by name."""
        raise NotImplementedError

    def save_pretrained(self, path: str | Path, *, report: Any = None) -> None:
        """Save the model to a folder: `model.safetensors`, `config.json`, and a model card, `README.md`.

        The weights, the decision and what `start_head` has set are saved. Registered fusions, stacks and wrappers,
        layers of torch, also in an `nn.Sequential`, and encoders of `vision_encoder` are saved with their options. Of
        any other part, such as an encoder of your own class, only the weights are saved: pass one of the same
        architecture to `from_pretrained`.

        Nothing is pickled. If saving is interrupted, the folder holds the old model, or none that can be loaded. Hooks,
        `requires_grad` and the mode are not saved. For a wrapped model call `ddp.module.save_pretrained`.

        Args:
            path: The folder. It is created if there is none; a model in it is replaced.
            report: What `pairfuse.evaluate` returned, for the model card.

        Raises:
            NotADirectoryError: `path` is a file.
            ValueError: A lazy layer has not run yet, a weight is not an ordinary tensor (sharded, quantized, or on the
                meta device), or the decision is of another fusion or head.

        Examples:
            >>> import tempfile, torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "bilinear").eval()
            >>> x1, x2 = torch.randn(3, 8), torch.randn(3, 8)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     loaded = pf.SiameseComparator.from_pretrained(folder)
            >>> torch.equal(loaded(x1, x2), model(x1, x2))
            True
        """
        _save(self, Path(path), Path(path).name, report)  # a card does not tell the folders of a machine

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        encoder: nn.Module | None = None,
        right_encoder: nn.Module | None = None,
        fusion: Fusion | None = None,
        head: nn.Module | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a model that `save_pretrained` or `push_to_hub` has saved.

        No file decides which code runs: names are looked up among the fusions that are registered and in a fixed list
        of torch's layers. Every error about a file names it.

        Args:
            path: The folder, or a repository of the Hugging Face Hub such as `"name/model"` (needs the extra `hub`).
            encoder: An encoder of your own, of the architecture that was saved. It gets the saved weights, in place.
            right_encoder: The same for the right side.
            fusion: A fusion of your own that is not registered, or cannot be built from its options.
            head: A head of your own.
            revision: A branch, a tag or a commit of the repository. This and the rest is for downloads.
            token: An access token.
            cache_dir: Where downloads are kept.
            force_download: If True, download again.
            local_files_only: If True, use only what was downloaded before.

        Returns:
            The model in eval mode, on the device of the given encoder. Its scores equal those of the model that was
            saved, bit for bit on the same machine and with the same versions.

        Raises:
            FileNotFoundError: There is no such folder or repository, or a file is missing.
            ImportError: A repository is named, and huggingface_hub is not installed.
            TypeError: A part of your own is missing, or is of the wrong kind.
            ValueError: A file is damaged, has an unknown field, is from a newer version, or does not fit a part: the
                error lists names, shapes and dtypes that differ.

        Examples:
            >>> import tempfile, torch, pairfuse as pf
            >>> class Encoder(torch.nn.Linear):
            ...     '''An encoder of your own.'''
            >>> model = pf.SiameseComparator(Encoder(8, 4))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     loaded = pf.SiameseComparator.from_pretrained(folder, encoder=Encoder(8, 4))
        """
        given = {"encoder": encoder, "right_encoder": right_encoder, "fusion": fusion, "head": head}
        for name, part in given.items():
            if part is not None:
                check_module("from_pretrained", name, part)
        if fusion is not None and not isinstance(fusion, Fusion):
            raise TypeError(f"from_pretrained expects fusion to be a Fusion, got {type(fusion).__name__}")
        folder = fetch(
            path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        loaded: Self = _load(cls, folder, {name: part for name, part in given.items() if part is not None})
        return loaded

    def push_to_hub(self, repository: str, *, report: Any = None, **options: Any) -> Any:
        """Save the model to a repository of the Hugging Face Hub, which is created if there is none.

        Needs the extra `hub`. To update, push again.

        Args:
            repository: Its name, such as `"name/model"`.
            report: As for `save_pretrained`.
            **options: Of huggingface_hub's `ModelHubMixin.push_to_hub`, such as `private`, `token`, `branch`,
                `create_pr` and `commit_message`.

        Returns:
            What `ModelHubMixin.push_to_hub` returns: the commit.

        Raises:
            ImportError: huggingface_hub is not installed.
            ValueError: As for `save_pretrained`.
        """
        return push(lambda folder: _save(self, folder, repository, report), repository, **options)


def _save(model: Savable, folder: Path, name: str, report: Any) -> None:
    """Save a model to a folder, with a card that loads it by a name."""
    check_initialized("save_pretrained", model)
    tensors = files.named_tensors(model)
    decision = model.decision
    model.decision = decision  # raises if the fusion or the head was replaced since
    saved = None if decision is None else decision.to_dict()
    if saved is not None:
        Decision.from_dict(saved)  # what could not be read is not written
    shared = _shared_parts(tensors)
    comparator: dict[str, Any] = {"class": written_class(model).__name__}
    for part in _PARTS:
        module = getattr(model, part)
        made = None if module is None else describe_own(module) if part in shared else describe(module)
        comparator[part] = made
    comparator |= {field: getattr(model, field) for field in ("joint_pass", "item_ndim", "right_item_ndim")}
    comparator |= {"started": model.head_started is not None, "comparison": model.comparison}
    versions = {"pairfuse": __version__, "torch": str(torch.__version__)}
    config = {"format": FORMAT, **versions, "comparator": comparator, "decision": saved}
    card = write_card(name, comparator, " and ".join(" ".join(x) for x in versions.items()), decision, report)
    files.write_folder(folder, files.distinct(tensors), config, card)


def _shared_parts(tensors: dict[str, Tensor]) -> set[str]:
    """Return the parts that share a weight with another part: rebuilt apart, they would not share it."""
    owners: dict[int, set[str]] = {}
    for name, tensor in tensors.items():
        owners.setdefault(id(tensor), set()).add(name.partition(".")[0])
    return {part for parts in owners.values() if len(parts) > 1 for part in parts}


class _Config(NamedTuple):
    """What `config.json` says, checked as far as no part is needed."""

    path: Path
    comparator: dict[str, Any]
    decision: Decision | None


def _read_config(path: Path) -> _Config:
    values = files.from_json(str(path), path.read_bytes())
    files.check_format(path, values, FORMAT)
    try:
        check_fields("the file", values, ["format", "pairfuse", "torch", "comparator", "decision"])
        comparator = check_fields("comparator", values["comparator"], _FIELDS)
        for field in ("class", "comparison"):
            read_text(f"comparator.{field}", comparator[field])
        for field in ("joint_pass", "started"):
            if not isinstance(comparator[field], bool):
                raise ValueError(f"comparator.{field} must be true or false, got {comparator[field]!r:.80}")
        for field in ("item_ndim", "right_item_ndim"):
            if comparator[field] is not None:
                read_count(f"comparator.{field}", comparator[field])
        decision = None if values["decision"] is None else Decision.from_dict(values["decision"])
        if decision is not None and decision.comparison not in ("", comparator["comparison"]):
            raise ValueError(f"the decision is of {decision.comparison!r:.200}, not of this model's comparison")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _Config(path, comparator, decision)


def _load(cls: type[Any], folder: Path, given: dict[str, nn.Module]) -> Any:
    """Load a model from a folder; `given` are the parts that were passed."""
    config, weights = _read_config(files.find_file(folder, files.CONFIG)), files.find_file(folder, files.WEIGHTS)
    if config.comparator["class"] != cls.__name__:
        raise ValueError(
            f"{config.path} is of a {config.comparator['class']}: call its from_pretrained, not that of {cls.__name__}"
        )
    found, _ = files.read_kinds(weights)
    planned = _build(cls, config, given, "meta")  # nothing is allocated before it is known to be in the file
    due = files.kinds(files.distinct(files.named_tensors(planned)))
    for name in [*given, ""]:
        prefix = f"{name}." if name else ""
        of_part = ({n: kind for n, kind in of.items() if n.startswith(prefix)} for of in (due, found))
        files.check_fit(f"the {name} that was passed" if name else str(config.path), *of_part)
    like = first_parameter(given["encoder"]) if "encoder" in given else None
    model = _build(cls, config, given, torch.get_default_device() if like is None else like.device)
    files.fill(model, files.read_tensors(weights), weights)
    model.eval()
    own = [name for name in ("fusion", "head") if name in given]
    if config.decision is not None and own and model.comparison != config.comparator["comparison"]:
        raise ValueError(
            f"{config.path} has a decision on the scores of {config.comparator['comparison']}, got "
            f"{' and '.join(own)} that make it {model.comparison}: pass the ones of the saved model"
        )
    if config.decision is not None:  # of the same comparison, though another version of torch may print it otherwise
        model.decision = replace(config.decision, comparison=config.decision.comparison and model.comparison)
    return model


def _build(cls: type[Any], config: _Config, given: dict[str, nn.Module], device: torch.device | str) -> Any:
    """Return the model with the parts that were passed; the others are built."""
    right = config.comparator["right_encoder"]
    if right is None and "right_encoder" in given:
        raise ValueError("from_pretrained expects no right_encoder, since the saved model has one encoder")
    try:
        parts: dict[str, Any] = {
            name: build_or_pass("from_pretrained", name, config.comparator[name], given.get(name), device=device)
            for name in _PARTS
            if name != "right_encoder" or right is not None
        }
    except ValueError as error:
        raise ValueError(f"{config.path}: {error}") from error
    try:
        return _join(cls, config.comparator, **parts)
    except Exception as error:  # whatever parts are in a file
        raise ValueError(f"{config.path}: {str(error) or type(error).__name__}") from error


def _join(
    cls: type[Any],
    comparator: dict[str, Any],
    encoder: nn.Module,
    fusion: Any,
    head: nn.Module,
    right_encoder: nn.Module | None = None,
) -> Any:
    if not isinstance(fusion, Fusion):
        raise ValueError(f"fusion must be a fusion, got {type(fusion).__name__}")
    width = fusion.in_features if fusion.in_features == fusion.in2_features else None
    model = cls(
        encoder,
        fusion,
        head,
        right_encoder=right_encoder,
        embedding_dim=width,
        joint_pass=comparator["joint_pass"],
        allow_additive=True,
    )
    model.item_ndim, model.right_item_ndim = comparator["item_ndim"], comparator["right_item_ndim"]
    if comparator["started"]:
        if first_parameter(head) is None:
            raise ValueError("comparator.started must be false for a head without parameters")
        model._register_start(True)
    return model
