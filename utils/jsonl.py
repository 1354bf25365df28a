"""JSON and JSON Lines files: written whole or not at all, read with `file:line` in every error."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from utils.errors import InvalidFile


def read(path: Path | str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, one by one; empty lines are passed over.

        list(read("rows.jsonl")) -> [{"id": 1}, {"id": 2}]

    Raises:
        InvalidFile: the file is missing, or a line is not a JSON object; names `file:line`.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read ({error.strerror}).") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                start = line[:60].decode(errors="replace").rstrip()
                raise InvalidFile(f"{path}:{number}: not JSON ({error}): {start!r}") from error
            if not isinstance(row, dict):
                raise InvalidFile(f"{path}:{number}: expected an object, not {type(row).__name__}.")
            yield row


def write(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> int:
    """The number of rows written, one line each; readers see the old file or the new, never half.

    write("rows.jsonl", [{"id": 1}, {"id": 2}]) -> 2
    """
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in rows:
            count += 1
            yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    _replace(Path(path), lines())
    return count


def read_json(path: Path | str) -> dict[str, Any]:
    """The one object of a JSON file; an empty one when there is no such file.

    Raises:
        InvalidFile: the file holds something else; names the file.
    """
    path = Path(path)
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise InvalidFile(f"{path}: not JSON ({error}); delete it and run again.") from error
    if not isinstance(value, dict):
        raise InvalidFile(f"{path}: expected an object, not {type(value).__name__}.")
    return value


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write one indented JSON object, whole or not at all."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    _replace(Path(path), [orjson.dumps(value, option=option)])


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    """Write to a neighbour file, then rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
