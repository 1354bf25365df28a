"""The files of one commit: a mapping from path to entry, and what can be said about it.

{"training/training.jsonl": {"oid": "git blob sha1", "size": 1234, "sha256": "…", "lfs": False,
                             "commit": "the commit that last changed it"}}
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from nemo_local.data_store.blobs import Blob, git_oid
from nemo_local.data_store.commit_stream import Operation
from nemo_local.data_store.errors import bad_payload, entry_not_found

Entry = dict[str, Any]
Files = dict[str, Entry]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def clean_path(value: object) -> str:
    """The path, when it stays inside its repository; else HubError 400."""
    if not isinstance(value, str) or not value or len(value) > 1024:
        raise bad_payload(f"not a path: {value!r}")
    if _CONTROL.search(value) or any(part in ("", ".", "..", ".git") for part in value.split("/")):
        raise bad_payload(f"the path {value!r} could leave its repository")
    return value


def regular_entry(blob: Blob) -> Entry:
    """The entry of a file that arrived in the commit itself."""
    return {"oid": blob.git_oid, "size": blob.size, "sha256": blob.sha256, "lfs": False}


def apply(
    files: Files,
    operations: list[Operation],
    repo_id: str,
    stored_size: Callable[[str], int | None],
    files_at: Callable[[str], Files],
) -> tuple[Files, set[str]]:
    """The files after the operations, and the paths that these wrote.

    `stored_size(sha256)` is the size of a blob or None; `files_at(revision)` serves copyFile.
    Raises HubError: 400 for a bad operation, 404 for a missing path; `files` stays as it was.
    """
    result, written = dict(files), set[str]()
    for operation in operations:
        value = operation.value
        path = _path(value, "path")
        if operation.key == "deletedFile":
            if path not in result:
                raise entry_not_found(repo_id, path)
            del result[path]
        elif operation.key == "deletedFolder":
            inside = [other for other in result if other.startswith(path + "/")]
            if not inside:
                raise entry_not_found(repo_id, path)
            for other in inside:
                del result[other]
        elif operation.key == "copyFile":
            revision, source_path = _revision(value), _path(value, "srcPath")
            source = files_at(revision) if revision else files
            if source_path not in source:
                raise entry_not_found(repo_id, source_path)
            result[path] = dict(source[source_path])
            written.add(path)
        elif operation.key == "lfsFile":
            result[path] = _uploaded(path, value, stored_size)
            written.add(path)
        elif operation.key == "file":
            assert operation.blob
            result[path] = regular_entry(operation.blob)
            written.add(path)
        else:
            raise bad_payload("a commit has one 'header' line, the first")
    _check_folders(result, written)
    return result, written & result.keys()


def listing(files: Files, folder: str, recursive: bool) -> list[tuple[str, Entry | None]]:
    """Paths below a folder with their entries; None marks a folder. Sorted by path."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Entry | None] = {}
    for path, entry in files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        depths = range(1, len(parts)) if recursive else range(1, min(2, len(parts)))
        for depth in depths:
            found[prefix + "/".join(parts[:depth])] = None
        if recursive or len(parts) == 1:
            found[path] = entry
    return sorted(found.items())


def oids(files: Files) -> dict[str, str]:
    """The SHA-1 of each file and folder; a folder's is that of the same tree in Git."""
    inside: dict[str, list[tuple[bytes, bytes, str]]] = defaultdict(list)
    for path, entry in listing(files, "", recursive=True):
        folder, _, name = path.rpartition("/")
        # Git sorts folders as if their names ended with a slash.
        order = name if entry else f"{name}/"
        mode = b"100644" if entry else b"40000"
        inside[folder].append((order.encode(), mode + b" " + name.encode() + b"\0", path))
    found = {path: str(entry["oid"]) for path, entry in files.items()}
    for folder in sorted(inside.keys() - {""}, key=lambda path: path.count("/"), reverse=True):
        items = sorted(inside[folder])
        content = b"".join(item + bytes.fromhex(found[path]) for _, item, path in items)
        text = b"tree %d\0" % len(content) + content
        found[folder] = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return found


def changes(files: Files) -> dict[str, set[str]]:
    """The commit that last changed each file, and for each folder those of all files below it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, entry in files.items():
        while path:
            found[path].add(entry["commit"])
            path = path.rpartition("/")[0]
    return found


def lfs_info(entry: Entry) -> dict[str, Any]:
    """A file's LFS object as the Hub API shows it."""
    sha256, size = entry["sha256"], entry["size"]
    pointer_size = len(_pointer(sha256, size))
    return {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": pointer_size}


def _pointer(sha256: str, size: int) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        sha256.encode(),
        size,
    )


def _path(value: Mapping[str, Any], key: str) -> str:
    path = value.get(key)
    return clean_path(path.rstrip("/") if isinstance(path, str) else path)


def _revision(value: Mapping[str, Any]) -> str | None:
    """The revision that a copy is made from; None for the head that the commit changes."""
    revision = value.get("srcRevision") or None
    if not isinstance(revision, str | None):
        raise bad_payload(f"srcRevision is not a text: {revision!r}")
    return revision


def _uploaded(
    path: str, value: Mapping[str, Any], stored_size: Callable[[str], int | None]
) -> Entry:
    oid = value.get("oid")
    if not isinstance(oid, str) or not _SHA256.fullmatch(oid):
        raise bad_payload(f"{path!r}: oid {oid!r} is not a SHA-256")
    size = stored_size(oid)
    if size is None:
        raise bad_payload(f"{path!r}: upload the LFS object {oid} before the commit")
    if value.get("size", size) != size:
        raise bad_payload(f"{path!r}: LFS object {oid} has {size} bytes, not {value['size']}")
    pointer_oid = git_oid(_pointer(oid, size))
    return {"oid": pointer_oid, "size": size, "sha256": oid, "lfs": True}


def _check_folders(files: Files, written: set[str]) -> None:
    """Raise HubError 400 when writing has made a path both a file and a folder."""
    folders = {
        "/".join(parts[:depth])
        for parts in (path.split("/") for path in files)
        for depth in range(1, len(parts))
    }
    clash = sorted(folders & files.keys())
    if clash and written:
        raise bad_payload(f"{clash[0]!r} would be a file and a folder")
