"""Fetches datasets from and stores models in the Data Store, over its Hub API."""

from __future__ import annotations

import glob
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from nemo_local.customizer.references import DatasetSource, OutputModel
from nemo_local.customizer.row_files import SUFFIXES, is_data


class FilesUnavailable(Exception):
    """Files could not be fetched or stored; the message says why."""


class Hub:
    """The Data Store, used as a Hugging Face Hub."""

    def __init__(self, platform_url: str, token: str | None) -> None:
        self._endpoint = f"{platform_url}/v1/hf"
        self._token = token

    def prepare(self) -> None:
        """Import the Hub's client, so that the first job does not wait for it."""
        from huggingface_hub import HfApi, snapshot_download  # noqa: F401

    def download(self, source: DatasetSource, folder: Path, unwanted: threading.Event) -> int:
        """Fetch a dataset's data files into `folder`; returns how many.

        Files below the path of the dataset's URL end up at the top of the folder. If `unwanted` is
        set by the time they are there, they are thrown away.

        Raises:
            FilesUnavailable: repository or path do not exist, or the hub does not answer.
        """
        from huggingface_hub import snapshot_download

        shutil.rmtree(folder, ignore_errors=True)
        fetched = folder.with_name(folder.name + ".fetched")
        shutil.rmtree(fetched, ignore_errors=True)
        url = source.url
        try:
            snapshot_download(
                url.repository,
                repo_type="dataset",
                revision=url.revision,
                endpoint=source.hf_endpoint or self._endpoint,
                # Our own token to our own store, none elsewhere; never the user's Hub token.
                token=False if source.hf_endpoint else self._token or False,
                local_dir=fetched,
                allow_patterns=_patterns(url.path),
            )
            _place(fetched, url.path, folder)
        except Exception as error:  # the client raises many kinds
            raise FilesUnavailable(f"dataset {source.shown} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
            if unwanted.is_set():
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # the job's folder holds more
                    folder.parent.rmdir()
        return sum(is_data(path.relative_to(folder)) for path in folder.rglob("*"))

    def upload(
        self, folder: Path, model: OutputModel, message: str, unwanted: threading.Event
    ) -> None:
        """Store a folder as the model's repository: on `main`, tagged with the version.

        Once `unwanted` is set, no further request is begun.

        Raises:
            FilesUnavailable: the Data Store does not answer or refuses.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._token or False)
        try:
            api.create_repo(model.repository, repo_type="model", exist_ok=True)
            if unwanted.is_set():
                return
            api.upload_folder(
                repo_id=model.repository,
                folder_path=folder,
                commit_message=message,
                revision="main",
                delete_patterns="*",  # files that only the version before has
            )
            if unwanted.is_set():
                return
            tags = api.list_repo_refs(model.repository).tags
            if any(tag.name == model.version for tag in tags):  # left by a run that failed
                api.delete_tag(model.repository, tag=model.version)
            api.create_tag(model.repository, tag=model.version)
        except Exception as error:  # the client raises many kinds
            raise FilesUnavailable(f"model {model} cannot be stored: {error}") from error


def _patterns(path: str) -> list[str]:
    path = glob.escape(path)
    inside = [f"{path}/*{suffix}".lstrip("/") for suffix in SUFFIXES]
    return [path, *inside] if path else inside


def _place(fetched: Path, path: str, folder: Path) -> None:
    found = fetched / path
    if found.is_dir():
        found.rename(folder)
        return
    folder.mkdir(parents=True)
    if found.is_file():
        found.rename(folder / found.name)
