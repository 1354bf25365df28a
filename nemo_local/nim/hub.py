"""The files of stored models, as the Data Store has them now."""

import shutil
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import snapshot_download

from nemo_local.core.client import Client
from nemo_local.nim.stored import Stored, split_files_url

HUB = "/v1/hf"


class Hub:
    """Downloads models, each version into a folder of its own."""

    def __init__(self, platform: Client, token: str | None, folder: Path) -> None:
        self._platform = platform
        self._token = token
        self._folder = folder

    def clear(self) -> None:
        """Delete everything, such as what a process that was killed has left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def commit_of(self, files_url: str) -> str:
        """The commit that a model's URL means now: its revision's, or the latest.

        Raises:
            Unservable: it is no such URL. UpstreamError: the Data Store has none, or is away.
        """
        namespace, name, revision = split_files_url(files_url)
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        path = f"{HUB}/api/models/{quote(namespace)}/{quote(name)}{at}"
        return str(self._platform.get(path)["sha"])

    def fetch(self, one: Stored, files: tuple[str, ...]) -> Path:
        """The folder with a model's files; only data is fetched, never a pickle.

        Raises:
            OSError: the download failed; trying again may help.
        """
        namespace, name, _ = split_files_url(one.files_url)
        folder = self._folder / one.folder
        try:
            snapshot_download(
                f"{namespace}/{name}",
                revision=one.commit,
                endpoint=self._platform.base_url + HUB,
                # The platform's own token or none; never the user's Hub token.
                token=self._token or False,
                local_dir=folder,
                allow_patterns=list(files),
            )
        except OSError:
            raise
        except Exception as error:  # also errors of its HTTP library
            raise ConnectionError(f"{one.files_url}: {type(error).__name__}: {error}") from error
        return folder

    def delete(self, one: Stored) -> None:
        """Delete the files of this version, if there are any."""
        shutil.rmtree(self._folder / one.folder, ignore_errors=True)
