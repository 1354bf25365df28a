"""The process that downloads one checkpoint: `python -m nemo_local.customizer.download`.

It reads what to download from standard input, one line of JSON (the fields of `Wanted`), and writes
one line, {"error": "..."} or {"error": null}. It ends when its standard input closes: its parent is
then gone or no longer wants the download. Files that are there already are not fetched again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nemo_local.catalog import why_unreadable
from nemo_local.core.errors import Invalid
from nemo_local.customizer.parent import PARENT_GONE, end_with_parent

FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""What a checkpoint consists of: data only, no pickles and no code."""
NOT_THESE = ("*/*", "consolidated*")
"""Files left out: subfolders (other formats), and Mistral's second copy of all weights."""
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/\-]{0,254}")


class CannotDownload(Exception):
    """A checkpoint cannot be downloaded; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """A checkpoint of a Hub, and the folder it goes to."""

    repository: str
    revision: str | None
    """None = the latest."""
    endpoint: str
    token: str | None
    folder: str

    def line(self) -> bytes:
        """The line of JSON that the download process reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


def split_model_uri(uri: str) -> tuple[str, str | None]:
    """Repository and revision of `hf://namespace/name[@revision]`.

    A branch may contain a slash, also quoted as by the Hub's client: `@feature%2Fx`.

    Raises:
        Invalid: it has another form, or names that no Hub could have.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    path = uri.removeprefix("hf://").removeprefix("models/")
    repository, at, revision = path.partition("@")
    revision = unquote(revision)
    try:
        validate_repo_id(repository)
        known = repository.count("/") == 1 and ".." not in revision
    except HFValidationError:
        known = False
    if not known or (at and not _REVISION.fullmatch(revision)):
        raise Invalid(f"model_uri {uri!r} does not have the form hf://namespace/name@revision")
    return repository, revision or None


def download(wanted: Wanted) -> None:
    """Fetch the checkpoint into its folder, which appears once it is complete.

    Raises:
        CannotDownload: the Hub does not answer, has no such checkpoint, or only other formats.
    """
    from huggingface_hub import snapshot_download

    folder = Path(wanted.folder)
    partial = folder.with_name(folder.name + ".partial")
    try:
        revision = _look_up(wanted)
        snapshot_download(
            wanted.repository,
            revision=revision,
            endpoint=wanted.endpoint,
            token=wanted.token or False,
            local_dir=partial,
            allow_patterns=list(FILES),
            ignore_patterns=list(NOT_THESE),
        )
        why = why_unreadable(partial)
        if why:
            raise CannotDownload(
                f"{wanted.repository} is not a checkpoint that can be trained: {why}"
            )
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except CannotDownload:
        raise
    except Exception as error:  # the client raises many kinds
        raise CannotDownload(_reason(wanted, error)) from error


def _look_up(wanted: Wanted) -> str:
    """The commit to fetch, if its list of files has a checkpoint; else raises CannotDownload."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    api = HfApi(endpoint=wanted.endpoint, token=wanted.token or False)
    info: Any = api.model_info(wanted.repository, revision=wanted.revision)
    names = {file.rfilename for file in info.siblings or []}
    weights = set(
        filter_repo_objects(names, allow_patterns="*.safetensors", ignore_patterns=list(NOT_THESE))
    )
    if "config.json" not in names or not weights:
        shown = ", ".join(sorted(names)[:8]) or "nothing"
        raise CannotDownload(
            f"{wanted.repository} is not a checkpoint that can be trained: it needs config.json "
            f"and *.safetensors (other formats are not loaded) and has {shown}"
        )
    return str(info.sha)


def _reason(wanted: Wanted, error: Exception) -> str:
    from huggingface_hub import errors

    where = f"at {wanted.endpoint}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{wanted.repository} {where} is gated: accept its terms there and start the platform "
            "with NEMO_LOCAL_HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{wanted.repository} {where} has no revision {wanted.revision!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no model repository {wanted.repository} {where}, or it is private; the "
            "target's hf_endpoint says which Hub is meant"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return f"{wanted.repository} {where} cannot be fetched: {error}"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{wanted.repository} cannot be stored: {error}"
    return (
        f"{wanted.endpoint} does not answer ({type(error).__name__}: {error}). Without a network, "
        "put the checkpoint into a folder and give that as model_path"
    )


def main() -> int:
    """Download the checkpoint that standard input names; returns the exit status."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return PARENT_GONE
    end_with_parent()
    reason = None
    try:
        download(Wanted(**json.loads(line)))
    except CannotDownload as error:
        reason = str(error)
    print(json.dumps({"error": reason}), flush=True)
    return 0


if __name__ == "__main__":
    status = main()
    os._exit(status)  # the client's threads may wait for a file that nobody wants any more
