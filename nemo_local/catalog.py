"""The models this platform knows by their official ids, and what stands behind each of them here.

An official id maps to real weights when a folder of them is present, else to a pocket stand-in
where we ship one, else to nothing: then the id is known, and asking for it is refused with the
reason. Every listing names who really answers (`answered_by`, `stand_in`).

Reads headers only; no torch.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nemo_local.architectures import Config, positions, why_stateful
from nemo_local.core.near import near_names
from nemo_local.settings import Settings

Role = Literal[
    "chat",  # answers users, carries adapters, may be fine-tuned
    "content_safety",  # judges one conversation in the NemoGuard output protocol
]

logger = logging.getLogger(__name__)

POCKET_WEIGHTS = Path(__file__).parent / "pocket" / "weights"


@dataclass(frozen=True)
class CatalogModel:
    """One official model id and the checkpoint that answers for it."""

    id: str
    """Official id, such as `meta/llama-3.2-1b-instruct`."""
    path: Path | None
    """Folder of the checkpoint (config.json, *.safetensors, tokenizer); None when absent."""
    answered_by: str
    """Name of the model that really answers; empty when nothing does."""
    stand_in: bool
    """True when a pocket model answers under this id."""
    max_model_len: int
    """Context of the checkpoint that answers (tokens); of the official model when none does."""
    num_parameters: int
    """Parameters of the checkpoint that answers; of the official model when none does."""
    role: Role
    why: str
    """The reason for this choice, as a sentence for listings and errors."""
    broken: bool = False
    """True when weights for this id are here but cannot be read or used."""


@dataclass(frozen=True)
class _Official:
    """What is published about a model, and the pocket stand-in we ship for it."""

    id: str
    hub_id: str
    num_parameters: int
    max_model_len: int
    role: Role = "chat"
    pocket: str | None = None


_OFFICIAL = (
    _Official(
        "meta/llama-3.2-1b-instruct",
        "meta-llama/Llama-3.2-1B-Instruct",
        1_235_814_400,
        131_072,
        pocket="base",
    ),
    _Official(
        "nvidia/llama-3.1-nemoguard-8b-content-safety",
        "nvidia/llama-3.1-nemoguard-8b-content-safety",
        8_030_261_248,
        131_072,
        role="content_safety",
        pocket="guard",
    ),
    _Official(
        "meta/llama-3.2-3b-instruct",
        "meta-llama/Llama-3.2-3B-Instruct",
        3_212_749_824,
        131_072,
    ),
    _Official(
        "meta/llama-3.1-8b-instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        8_030_261_248,
        131_072,
    ),
    _Official(
        "meta/llama-3.1-70b-instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        70_553_706_496,
        131_072,
    ),
    _Official(
        "meta/llama-3.3-70b-instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
        70_553_706_496,
        131_072,
    ),
    _Official("google/gemma-2-2b-it", "google/gemma-2-2b-it", 2_614_341_888, 8_192),
)

DEFAULT_MODEL = _OFFICIAL[0].id


class Catalog:
    """The known models by id, in a fixed order: the default chat model first."""

    def __init__(self, models: list[CatalogModel]) -> None:
        self.models: dict[str, CatalogModel] = {model.id: model for model in models}

    def get(self, model_id: str) -> CatalogModel | None:
        """The model with this id; a target's version after it (`@v1.0.0+80GB`) is ignored.

        None when the id is unknown; ask `near` for what the caller may have meant.
        """
        return self.models.get(model_id) or self.models.get(model_id.split("@", 1)[0])

    def near(self, model_id: str) -> list[str]:
        """Up to three known ids that look like `model_id`, best first."""
        return near_names(model_id.split("@", 1)[0], self.models)

    def servable(self) -> list[CatalogModel]:
        """The models that have a checkpoint here."""
        return [model for model in self.models.values() if model.path is not None]


def load_catalog(settings: Settings, pocket_weights: Path = POCKET_WEIGHTS) -> Catalog:
    """The catalogue for these settings: real weights first, then pocket stand-ins.

    `settings.models_dir` may hold `<official id>/`, `<hub id>/` or the Hub's cache layout
    (`models--meta-llama--Llama-3.2-1B-Instruct/snapshots/<revision>/`). Any other folder
    `<namespace>/<name>/` with a checkpoint is served as a chat model under that id, if the id is
    valid.
    """
    root = settings.models_dir
    models = [
        _entry(official, root, pocket_weights / (official.pocket or "")) for official in _OFFICIAL
    ]
    taken = {model.path for model in models} | {
        path for official in _OFFICIAL if root for path in _real_folders(root, official)
    }
    if root is not None and root.is_dir():
        for config in sorted(root.glob("*/*/config.json")):
            folder = config.parent
            if _is_checkpoint(folder) and folder not in taken:
                if _can_be_names(folder.parent.name, folder.name):
                    models.append(_real(f"{folder.parent.name}/{folder.name}", folder, "chat"))
                else:
                    logger.warning("%s is left out: its name cannot be that of a model", folder)
    return Catalog(models)


def _can_be_names(*parts: str) -> bool:
    from nemo_local.core.web import ENTITY_NAME  # training processes have no use for its imports

    return all(ENTITY_NAME.fullmatch(part) for part in parts)


def _entry(official: _Official, root: Path | None, pocket: Path) -> CatalogModel:
    folders = [f for f in _real_folders(root, official) if _is_checkpoint(f)] if root else []
    if folders:
        return _real(official.id, folders[0], official.role)
    if official.pocket is not None and _is_checkpoint(pocket):
        answered_by = f"nemo-local/pocket-{official.pocket}"
        return CatalogModel(
            id=official.id,
            path=pocket,
            answered_by=answered_by,
            stand_in=True,
            max_model_len=context_length(pocket),
            num_parameters=count_parameters(pocket),
            role=official.role,
            why=f"no weights of {official.id} here; the pocket model {answered_by} stands in",
        )
    return CatalogModel(
        id=official.id,
        path=None,
        answered_by="",
        stand_in=False,
        max_model_len=official.max_model_len,
        num_parameters=official.num_parameters,
        role=official.role,
        why=(
            f"no weights of {official.id} here; put a checkpoint of {official.hub_id} into "
            f"<models folder>/{official.id} and set NEMO_LOCAL_MODELS=<models folder>"
        ),
    )


def has_own_weights(target: Mapping[str, Any]) -> bool:
    """Whether a target of the Customizer names weights, instead of those of its base model.

    Targets of the real service name an `ngc://` model, which is the catalogue's here.
    """
    uri = str(target.get("model_uri") or "")
    return bool(target.get("model_path")) or uri.startswith("hf://")


def checkpoint_in(
    folder: Path, model_id: str, why: str, role: Role = "chat", stand_in: bool = False
) -> CatalogModel:
    """The catalogue entry of a readable checkpoint folder (see `why_unreadable`)."""
    return CatalogModel(
        id=model_id,
        path=folder,
        answered_by=model_id,
        stand_in=stand_in,
        max_model_len=context_length(folder),
        num_parameters=count_parameters(folder),
        role=role,
        why=why,
    )


def _real(model_id: str, folder: Path, role: Role) -> CatalogModel:
    """The catalogue entry of a folder; an unreadable one has the reason and no path."""
    unreadable = why_unreadable(folder)
    if not unreadable:
        return checkpoint_in(folder, model_id, f"weights found in {folder}", role)
    logger.warning("%s: %s", model_id, unreadable)
    return CatalogModel(
        id=model_id,
        path=None,
        answered_by="",
        stand_in=False,
        max_model_len=0,
        num_parameters=0,
        role=role,
        why=unreadable,
        broken=True,
    )


def _real_folders(root: Path, official: _Official) -> list[Path]:
    cached = root / f"models--{official.hub_id.replace('/', '--')}"
    main = cached / "refs" / "main"
    newest = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = sorted((cached / "snapshots").glob("*"), key=lambda one: (one.name != newest, one))
    return [root / official.id, root / official.hub_id, *snapshots]


def _is_checkpoint(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(_weights_of_transformers(folder))
    except OSError:  # a path that is too long, a folder that is not ours to read
        return False


def why_unreadable(folder: Path) -> str:
    """Why the folder holds no checkpoint that can be run here; empty when it does."""
    if not _is_checkpoint(folder):
        return f"no checkpoint (config.json, *.safetensors) in {folder}"
    try:
        context_length(folder)
        count_parameters(folder)
        stateful = why_stateful(config_of(folder))
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        return f"the weights in {folder} cannot be read: {error}"
    return f"the weights in {folder} cannot be used: {stateful}" if stateful else ""


def context_length(folder: Path) -> int:
    """The checkpoint's context length in tokens, from its config.json."""
    return positions(config_of(folder))


def config_of(folder: Path) -> Config:
    """The checkpoint's config.json."""
    config: Config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def count_parameters(folder: Path) -> int:
    """Parameters stored in the folder's weight files, read from their headers."""
    shapes = (shape for path in weight_files(folder) for shape in tensor_shapes(path).values())
    return sum(map(math.prod, shapes))


def weight_files(folder: Path) -> list[Path]:
    """The files from which transformers loads a checkpoint's weights, sorted.

    A single file, or those that the index names. Mistral's repositories hold all weights twice; the
    second copy, `consolidated*.safetensors` with other tensor names, is left out.

    Raises:
        OSError, ValueError, LookupError, AttributeError: the index cannot be read.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if elsewhere := [name for name in names if Path(name).name != name]:
            raise ValueError(f"{index.name} names {elsewhere[0]!r}, which is not in the folder")
        return [folder / name for name in names]
    return _weights_of_transformers(folder)


def _weights_of_transformers(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    return [path for path in found if not path.name.startswith("consolidated")]


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Tensor shapes of a safetensors file by tensor name, read from its header.

    The file begins with the header's length, 8 bytes little-endian; the header is JSON:
    {"tensor": {"dtype": ..., "shape": [...], "data_offsets": [...]}, "__metadata__": {...}}

    Raises:
        OSError; ValueError: it is a Git LFS pointer, not safetensors, or cut short.
    """
    in_part = f"{path.name} is not a safetensors file, or is cut short"
    with path.open("rb") as file:
        begin, size = file.read(8), path.stat().st_size
        length = int.from_bytes(begin, "little")
        if begin == b"version ":
            raise ValueError(f"{path.name} is a Git LFS pointer; fetch the file (git lfs pull)")
        if len(begin) < 8 or length > size:
            raise ValueError(in_part)
        header = json.loads(file.read(length))
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    ends = (tensor["data_offsets"][1] for tensor in tensors.values())
    if 8 + length + max(ends, default=0) > size:
        raise ValueError(in_part)
    return {name: tensor["shape"] for name, tensor in tensors.items()}
