"""Data Store verbs: a namespace, a dataset repository, and the files in it.

The Data Store speaks the Hugging Face Hub's API, so uploads go through `huggingface_hub.HfApi`.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfUriError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from utils import jsonl
from utils.errors import Conflict, InvalidFile, OutOfOrder
from utils.http import post_form, translated
from utils.jobs import fingerprint

if TYPE_CHECKING:
    from datasets import Dataset

# `upload_files` promises that the same files make no new commit; the Hub's client warns of it.
logging.getLogger("huggingface_hub.hf_api").addFilter(
    lambda record: not record.getMessage().startswith("No files have been modified")
)


def hub(nds_url: str, token: str | None = None) -> HfApi:
    """The Hub client that talks to the Data Store; `token` is the platform's own, if it has one.

    Without one, `token=False` keeps the client from sending a stored Hugging Face token.
    """
    return HfApi(endpoint=f"{nds_url.rstrip('/')}/v1/hf", token=token or False)


def load_rows(
    endpoint: str, dataset: str, token: str | None = None, *, columns: Sequence[str] = ()
) -> "Dataset":
    """The training split of a data set of the Hub at `endpoint`, which may be a Data Store.

        load_rows("http://127.0.0.1:8080/v1/hf", "owner/name")[0] -> {"id": 0, "query": ...}

    Rows without an `id` get their position as one: "row 1", "row 2". Existing ids then become
    text.

    Raises:
        NotFound: the Hub has no such data set, or the token may not see it.
        Unreachable: nothing answers at `endpoint`.
        InvalidFile: it has no training rows that can be read, or lacks one of `columns`.
    """
    import datasets  # takes a second; only notebook 1 needs it

    datasets.disable_progress_bars()
    disable_progress_bars()
    api = HfApi(endpoint=endpoint, token=token or False)
    with translated(endpoint, setting="HF_ENDPOINT"):
        # Asked first, because a download falls back to its cache when nobody answers.
        revision = api.dataset_info(dataset).sha
        folder = api.snapshot_download(dataset, repo_type="dataset", revision=revision)
    try:
        rows = datasets.load_dataset(folder, split="train")
        rows.data.validate(full=True)  # text that is not UTF-8 would only fail where it is read
    except Exception as error:  # of many kinds, and most name no file
        for path in sorted(Path(folder).rglob("*.jsonl")):
            list(jsonl.read(path))  # names the line, if a line is to blame
        reason = " ".join(str(error.__cause__ or error).split()) or "there are none"
        raise InvalidFile(f"{dataset} has no training rows that can be read: {reason}") from error
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise InvalidFile(
            f"{dataset} has the columns {', '.join(rows.column_names)}, but not "
            f"{', '.join(missing)}: convert its rows first, to the form that notebook 1 shows."
        )
    ids = list(rows["id"]) if "id" in rows.column_names else [None] * len(rows)
    if None in ids:
        named = [f"row {n}" if one is None else str(one) for n, one in enumerate(ids, start=1)]
        rows = rows.select_columns([name for name in rows.column_names if name != "id"])
        rows = rows.add_column("id", named)
    return rows


def ensure_namespace(nds_url: str, namespace: str, token: str | None = None) -> bool:
    """True when the namespace is new to the Data Store, False when it was there."""
    form, path = {"namespace": namespace}, "/v1/datastore/namespaces"
    try:
        post_form(nds_url, path, form, setting="DATA_STORE_URL", token=token)
    except Conflict:
        return False
    return True


def ensure_dataset_repo(hf: HfApi, repo_id: str) -> str:
    """The `hf://` URL of the dataset repository `namespace/name`, created if it was not there."""
    with translated(hf.endpoint, setting="DATA_STORE_URL"):
        with suppress(HfUriError):  # a gateway may name it by a URL that the client cannot read
            hf.create_repo(repo_id, repo_type="dataset", exist_ok=True)
    return f"hf://datasets/{repo_id}"


def upload_files(hf: HfApi, repo_id: str, files: Mapping[str, Path]) -> str:
    """The commit (40 hex digits) of the repository that holds these files.

        upload_files(hf, "ns/xlam", {"training/training.jsonl": Path("data/...")}) -> "4c1f..."

    One commit: all files or none. Files that are there already make no new commit.

    Raises:
        InvalidFile: one of the files does not exist on this machine.
    """
    for path in files.values():
        if not path.is_file():
            raise InvalidFile(f"{path}: no such file; notebook 1 writes it.")
    with translated(hf.endpoint, setting="DATA_STORE_URL"):
        with suppress(HfUriError):  # a Data Store may answer without the URL of the commit it made
            hf.create_commit(
                repo_id,
                repo_type="dataset",
                operations=[CommitOperationAdd(name, str(path)) for name, path in files.items()],
                commit_message=f"Upload {len(files)} files",
            )
        return str(hf.dataset_info(repo_id).sha)


def contents(hf: HfApi, repo_id: str) -> str:
    """A hash of the repository's contents (16 hex digits), the same for the same files.

    A commit's SHA would not do: it is new even when data change and change back.
    """
    return fingerprint(_blobs(hf, repo_id))


def require_contents(hf: HfApi, repo_id: str, expected: str, *, notebook: str) -> None:
    """Check that the repository's `contents` are still those that `notebook` uploaded.

    Raises:
        OutOfOrder: a second run has since uploaded other files under the same names.
    """
    if contents(hf, repo_id) != expected:
        raise OutOfOrder(
            f"{repo_id} in the Data Store holds other files than this run's: another run has "
            f"uploaded its own. Run {notebook} again, which puts these back and trains nothing "
            "twice. Runs side by side need a NAMESPACE and a DATA_DIR each."
        )


def list_files(hf: HfApi, repo_id: str) -> list[str]:
    """Paths in the repository, without the Hub's own `.gitattributes`."""
    return sorted(_blobs(hf, repo_id))


def _blobs(hf: HfApi, repo_id: str) -> dict[str, str]:
    """{path: Git hash} of the repository's files, without the Hub's own `.gitattributes`."""
    with translated(hf.endpoint, setting="DATA_STORE_URL"):
        entries = list(hf.list_repo_tree(repo_id, repo_type="dataset", recursive=True))
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return {file.path: file.blob_id for file in files if file.path != ".gitattributes"}
