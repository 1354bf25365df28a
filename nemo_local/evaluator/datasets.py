"""Rows of an evaluation: JSONL, JSON or CSV files fetched through the Data Store's front door."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from nemo_local.core.client import Client
from nemo_local.core.hub_urls import DatasetUrl, split_dataset_url

Row = dict[str, Any]
DATA_SUFFIXES = (".jsonl", ".json", ".csv")
LONGEST_CELL = 2**31 - 1
"""Most characters in a CSV cell: in effect no limit; the csv module's default is 131,072."""


class DatasetError(Exception):
    """A dataset cannot be read; the message names the file and what to do."""


def parse_url(files_url: str) -> DatasetUrl:
    """The parts of a dataset URL. Raises DatasetError for any other URL."""
    try:
        return split_dataset_url(files_url)
    except ValueError as error:
        raise DatasetError(f"Dataset URL {error}") from None


def commit_of(platform: Client, dataset: dict[str, Any]) -> str:
    """The commit at which the dataset's revision is now. Raises DatasetError when none is."""
    url = parse_url(str(dataset["files_url"]))
    found = _asked(platform, dataset, f"revision/{quote(url.reference, safe='')}")
    return str(found["sha"])


def data_files(platform: Client, dataset: dict[str, Any], revision: str | None = None) -> list[str]:
    """Paths of the dataset's data files, sorted; `revision` overrides the one in its URL.

    A `split` selects the files with its name in their path; a single file must have it, too.
    Hidden files, and those in hidden folders, are left out: Jupyter keeps copies there.

    Raises:
        DatasetError: the repository, the path or the split does not exist, or has no data file.
    """
    files_url = str(dataset["files_url"])
    url = parse_url(files_url)
    tree = f"tree/{quote(revision or url.reference, safe='')}"
    entries = _asked(platform, dataset, tree, recursive="true")
    paths = sorted(entry["path"] for entry in entries if entry["type"] == "file")
    split = dataset.get("split")
    if url.path in paths:
        if split and not _names_split(url.path, str(split)):
            raise DatasetError(
                f"{files_url} is not a file of split {split!r}: its path does not name it"
            )
        return [url.path]
    inside = [path for path in paths if not url.path or path.startswith(f"{url.path}/")]
    seen = [path for path in inside if "/." not in f"/{path.removeprefix(url.path).lstrip('/')}"]
    found = [path for path in seen if path.lower().endswith(DATA_SUFFIXES)]
    if not inside:
        raise DatasetError(f"{files_url} is not present on datastore")
    chosen = [path for path in found if not split or _names_split(path, str(split))]
    if not chosen:
        wanted = f" of split {split!r}" if split else ""
        raise DatasetError(f"{files_url} has no {', '.join(DATA_SUFFIXES)} file{wanted}")
    return chosen


def load_rows(
    platform: Client, dataset: dict[str, Any], limit: int | None, commit: str
) -> list[Row]:
    """The first `limit` rows in file order at this commit (None = all); later rows are not read.

    Raises:
        DatasetError: a file is missing or malformed; the message names file and line.
    """
    url = parse_url(str(dataset["files_url"]))
    repository = quote(url.repository)
    rows: list[Row] = []
    for path in data_files(platform, dataset, commit):
        wanted = None if limit is None else limit - len(rows)
        if wanted == 0:
            break
        where = f"/v1/hf/datasets/{repository}/resolve/{commit}/{quote(path)}"
        with platform.stream("GET", where) as response:
            file_rows = read_rows(path, response.iter_bytes(), dataset.get("format"))
            rows += islice(file_rows, wanted)
    if not rows:
        raise DatasetError(f"{dataset['files_url']} has no rows")
    return rows


def read_rows(path: str, content: Iterable[bytes], format: str | None = None) -> Iterator[Row]:
    """The rows of one file; all but a JSON list are parsed lazily.

    A `format` of jsonl, json or csv overrides the file's suffix. Any other format is the schema
    of the rows, as the API defines it, and says nothing about the file.

    Raises:
        DatasetError: not the format its name says; the message names file and line.
    """
    named = f".{(format or '').lower()}"
    suffix = named if named in DATA_SUFFIXES else PurePosixPath(path).suffix.lower()
    lines = _lines(path, content)
    if suffix == ".csv":
        return _csv_rows(path, lines)
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    lines = chain(head, lines)
    # Many tools write one object per line into a `.json` file.
    if suffix == ".json" and not "".join(head).lstrip().startswith("{"):
        return iter(_array(path, "".join(lines)))
    return _jsonl_rows(path, lines)


def _asked(platform: Client, dataset: dict[str, Any], path: str, **params: str) -> Any:
    """The Data Store's answer about the dataset's repository. Raises DatasetError on a 404."""
    repository = quote(parse_url(str(dataset["files_url"])).repository)
    answer = platform.find(f"/v1/hf/api/datasets/{repository}/{path}", params=params)
    if answer is None:
        raise DatasetError(f"{dataset['files_url']} is not present on datastore")
    return answer


def _names_split(path: str, split: str) -> bool:
    pure = PurePosixPath(path)
    return split in (*pure.parts[:-1], pure.stem) or pure.stem.startswith(f"{split}-")


def _lines(path: str, content: Iterable[bytes]) -> Iterator[str]:
    """The file's lines, split at \\n only: JSON text may contain other line breaks."""
    for number, line in enumerate(_byte_lines(content), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path} line {number} is not UTF-8 text ({error})") from None


def _byte_lines(content: Iterable[bytes]) -> Iterator[bytes]:
    begun: list[bytes] = []
    for piece in content:
        *ends, begin = piece.split(b"\n")
        for end in ends:
            yield b"".join([*begun, end, b"\n"])
            begun = []
        begun.append(begin)
    if any(begun):
        yield b"".join(begun)


def _csv_rows(path: str, lines: Iterable[str]) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines)
    try:
        header = _distinct(next((cells for cells in reader if "".join(cells).strip()), []))
        for cells in reader:
            if len(cells) == len(header):
                yield dict(zip(header, cells, strict=True))
            elif "".join(cells).strip():
                raise DatasetError(
                    f"{path} line {reader.line_num} has {len(cells)} cells, not the {len(header)} "
                    "of the header; put cells that hold commas in quotes"
                )
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num} is not CSV ({error})") from None


def _distinct(names: list[str]) -> list[str]:
    """Column names made unique: ["q", "q", "a"] -> ["q", "q_1", "a"]."""
    found: list[str] = []
    for name in names:
        number, free = 0, name
        while free in found or (number and free in names):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def _array(path: str, text: str) -> list[Row]:
    value = _parsed(path, text)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DatasetError(f"{path} must hold a list of objects")
    return value


def _jsonl_rows(path: str, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        value = _parsed(place, line)
        if not isinstance(value, dict):
            raise DatasetError(f"{place} is a JSON {type(value).__name__}, not an object")
        yield value


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DatasetError(f"{place} is not JSON ({error})") from None
    except RecursionError:
        raise DatasetError(f"{place} is nested too deeply") from None
