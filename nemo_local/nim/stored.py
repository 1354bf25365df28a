"""What the Data Store keeps for inference: adapters, and whole models such as fine-tunings of all
weights."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from nemo_local.catalog import CatalogModel, checkpoint_in, why_unreadable
from nemo_local.nim.lora import Unservable


@dataclass(frozen=True)
class Stored:
    """A model of the Entity Store whose files are in the Data Store."""

    model_id: str
    entity_id: str
    files_url: str
    commit: str = field(default="", kw_only=True)
    """What the URL means at the moment; empty until it is looked up."""

    @property
    def source(self) -> tuple[str, str]:
        """What the platform says of the files."""
        return (self.entity_id, self.files_url)

    @property
    def key(self) -> tuple[str, str, str]:
        """A key that changes when the same name comes to mean other weights."""
        return (*self.source, self.commit)

    @property
    def has_revision(self) -> bool:
        """Whether the URL names a revision, which stays what it is once it is loaded."""
        return split_files_url(self.files_url)[2] is not None

    @property
    def folder(self) -> str:
        """Name of the folder for its files, where no other version keeps any."""
        files = f"{self.files_url} {self.commit}"
        return f"{self.entity_id}-{hashlib.sha256(files.encode()).hexdigest()[:16]}"

    @property
    def beside(self) -> str:
        """The base model of an adapter; empty for a whole model."""
        return ""


@dataclass(frozen=True)
class WantedAdapter(Stored):
    """An adapter that is uploaded."""

    base_id: str

    @property
    def beside(self) -> str:
        return self.base_id


@dataclass(frozen=True)
class WantedCheckpoint(Stored):
    """A whole model that a deployment names."""

    stand_in: bool
    """Whether it was made from a stand-in."""
    with_adapters: bool
    """Whether adapters may be served beside it."""

    def entry(self, folder: Path) -> CatalogModel:
        """The entry to load the model by, once its files are in `folder`.

        Raises:
            Unservable: there is not a checkpoint that can be computed.
        """
        why = why_unreadable(folder)
        if why:
            raise Unservable(why)
        source = f"weights of {self.files_url}"
        return checkpoint_in(folder, self.model_id, source, stand_in=self.stand_in)


def split_files_url(url: str) -> tuple[str, str, str | None]:
    """Namespace, repository and revision of a model URL.

        "hf://ns/name@cust-1" -> ("ns", "name", "cust-1")
        "hf://models/ns/name@feature%2Fx" -> ("ns", "name", "feature/x")
        "hf://ns/name" -> ("ns", "name", None)

    Raises:
        Unservable: it is not a model in the Data Store.
    """
    path = url.removeprefix("hf://").removeprefix("nds://").removeprefix("models/")
    namespace, _, rest = path.partition("/")
    name, _, revision = rest.strip("/").partition("@")
    if path == url or not namespace or not name or "/" in name:
        raise Unservable(f"files_url {url!r} does not have the form hf://namespace/name")
    return namespace, name, unquote(revision) or None
