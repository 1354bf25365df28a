"""Rows of an evaluation: JSONL, JSON or CSV files fetched through the Data Store's front door."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from nemo_local.core.client import Client, UpstreamError

Row = dict[str, Any]
DATA_SUFFIXES = (".jsonl", ".json", ".csv")
_SCHEMES = ("hf://datasets/", "nds://datasets/")


class DatasetError(Exception):
    """A dataset cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class DatasetUrl:
    """The parts of `hf://datasets/ns/name[@revision][/path]`."""

    repository: str
    revision: str
    path: str
    """File or folder inside the repository; empty = all of it."""


def parse_url(files_url: str) -> DatasetUrl:
    """The parts of a dataset URL.

    parse_url("hf://datasets/ns/d/testing/x.jsonl") -> DatasetUrl("ns/d", "main", "testing/x.jsonl")

    Raises:
        DatasetError: another scheme, or no repository in it.
    """
    for scheme in _SCHEMES:
        if files_url.startswith(scheme):
            parts = files_url[len(scheme) :].strip("/").split("/")
            if len(parts) >= 2 and all(parts[:2]):
                name, _, revision = parts[1].partition("@")
                path = "/".join(part for part in parts[2:] if part)
                return DatasetUrl(f"{parts[0]}/{name}", revision or "main", path)
    raise DatasetError(
        f"{files_url!r} is not a dataset of the Data Store; write hf://datasets/<namespace>/<name>"
        "[/<file or folder>]"
    )


def data_files(platform: Client, dataset: dict[str, Any]) -> list[str]:
    """Paths of the dataset's data files, sorted.

    A `split` keeps the files that carry its name in their path.

    Raises:
        DatasetError: the repository, the path or the split does not exist, or has no data file.
    """
    files_url = str(dataset["files_url"])
    url = parse_url(files_url)
    tree = f"/v1/hf/api/datasets/{url.repository}/tree/{quote(url.revision, safe='')}"
    try:
        entries = platform.get(tree, params={"recursive": "true"})
    except UpstreamError as error:
        if error.status != 404:
            raise
        raise DatasetError(f"{files_url} is not present on datastore") from None
    paths = sorted(entry["path"] for entry in entries if entry["type"] == "file")
    if url.path in paths:
        return [url.path]
    inside = [path for path in paths if not url.path or path.startswith(f"{url.path}/")]
    found = [path for path in inside if path.endswith(DATA_SUFFIXES)]
    if not inside:
        raise DatasetError(f"{files_url} is not present on datastore")
    split = dataset.get("split")
    chosen = [path for path in found if not split or _names_split(path, str(split))]
    if not chosen:
        wanted = f" of split {split!r}" if split else ""
        raise DatasetError(f"{files_url} has no {', '.join(DATA_SUFFIXES)} file{wanted}")
    return chosen


def load_rows(platform: Client, dataset: dict[str, Any], limit: int | None) -> list[Row]:
    """The dataset's rows in file order; `limit` and the dataset's own limit keep the first ones.

    Raises:
        DatasetError: a file is missing or malformed; the message names file and line.
    """
    limits = [count for count in (limit, dataset.get("limit")) if count is not None]
    wanted = min(limits) if limits else None
    url = parse_url(str(dataset["files_url"]))
    rows: list[Row] = []
    for path in data_files(platform, dataset):
        if wanted is not None and len(rows) >= wanted:
            break
        revision = quote(url.revision, safe="")
        where = f"/v1/hf/datasets/{url.repository}/resolve/{revision}/{quote(path)}"
        rows += parse_rows(path, platform.raw("GET", where).content)
    if not rows:
        raise DatasetError(f"{dataset['files_url']} has no rows")
    return rows if wanted is None else rows[:wanted]


def parse_rows(path: str, content: bytes) -> list[Row]:
    """The rows of one file.

    Raises:
        DatasetError: not the format its name says; the message names file and line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text ({error})") from None
    if path.endswith(".csv"):
        return [dict(row) for row in csv.DictReader(io.StringIO(text))]
    if path.endswith(".json") and not _is_jsonl(text):
        return _array(path, text)
    return [
        _object(f"{path} line {number}", line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _names_split(path: str, split: str) -> bool:
    pure = PurePosixPath(path)
    return split in (*pure.parts[:-1], pure.stem) or pure.stem.startswith(f"{split}-")


def _is_jsonl(text: str) -> bool:
    """Whether a `.json` file holds one object a line, as many tools write it."""
    return text.lstrip().startswith("{")


def _array(path: str, text: str) -> list[Row]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON ({error})") from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DatasetError(f"{path} must hold a list of objects")
    return value


def _object(place: str, line: str) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"{place} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{place} is a JSON {type(value).__name__}, not an object")
    return value
