"""URLs of datasets on a Hub: `hf://datasets/namespace/name`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

_DATASETS = ("hf://datasets/", "nds://datasets/")


@dataclass(frozen=True)
class DatasetUrl:
    """The parts of `hf://datasets/ns/name[@revision][/path]`."""

    repository: str
    revision: str | None
    """None = the latest."""
    path: str
    """A file or folder in the repository; empty = all of it."""

    @property
    def reference(self) -> str:
        """The revision, or `main` for the latest."""
        return self.revision or "main"


def split_dataset_url(url: str) -> DatasetUrl:
    """The parts of a dataset URL.

    split_dataset_url("hf://datasets/ns/d/sub/") -> DatasetUrl("ns/d", None, "sub")

    Raises:
        ValueError: another scheme, no namespace and name, or a path that leaves the repository.
    """
    for scheme in _DATASETS:
        if url.startswith(scheme):
            namespace, _, rest = url[len(scheme) :].strip("/").partition("/")
            name, _, path = rest.partition("/")
            name, _, revision = name.partition("@")
            revision = unquote(revision)  # a branch may have a slash, which the client writes %2F
            parts = [part for part in path.split("/") if part]
            if any(part in (".", "..") for part in parts):
                raise ValueError(f"{url!r}: its path may not have '.' or '..' in it")
            if namespace and name:
                return DatasetUrl(f"{namespace}/{name}", revision or None, "/".join(parts))
    raise ValueError(f"{url!r} does not have the form hf://datasets/namespace/name")
