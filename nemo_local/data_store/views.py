"""How repositories, commits and references look in the Hub API."""

from __future__ import annotations

import hashlib
from typing import Any

from nemo_local.core.documents import Document
from nemo_local.data_store.service import USER
from nemo_local.data_store.tree import Entry, Files, lfs_info


def repo_view(
    repo: Document, commit: Document, files: Files, with_blobs: bool = False
) -> dict[str, Any]:
    """A repository at a commit, as `info` and the lists show it."""
    repo_id = f"{repo['namespace']}/{repo['name']}"
    view = {
        "_id": hashlib.sha1(repo["id"].encode(), usedforsecurity=False).hexdigest()[:24],
        "id": repo_id,
        "author": repo["namespace"],
        "sha": commit["name"],
        "lastModified": _milliseconds(commit["date"]),
        "createdAt": _milliseconds(repo["created_at"]),
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "usedStorage": sum(entry["size"] for entry in files.values()),
        "siblings": [_sibling(path, files[path], with_blobs) for path in sorted(files)],
    }
    return {**view, **({"modelId": repo_id} if repo["type"] == "model" else {})}


def refs_view(repo: Document) -> dict[str, Any]:
    """A repository's branches and tags."""
    return {
        "branches": [_ref(name, "heads", sha) for name, sha in repo["branches"].items()],
        "tags": [_ref(name, "tags", sha) for name, sha in repo["tags"].items()],
        "converts": [],
        "pullRequests": [],
    }


def commit_view(commit: Document) -> dict[str, Any]:
    """A commit as the history shows it."""
    return {
        "id": commit["name"],
        "title": commit["title"],
        "message": commit["message"],
        "authors": [{"user": USER}],
        "date": _milliseconds(commit["date"]),
    }


def path_view(
    path: str, entry: Entry | None, oid: str, last: Document | None = None
) -> dict[str, Any]:
    """A file, or a folder if there is no entry; with `last`, also the commit that changed it."""
    view: dict[str, Any]
    if entry is None:
        view = {"type": "directory", "oid": oid, "size": 0, "path": path}
    else:
        view = {"type": "file", "oid": oid, "size": entry["size"], "path": path}
        view |= {"lfs": lfs_info(entry)} if entry["lfs"] else {}
    if last is None:
        return view
    change = {"id": last["name"], "title": last["title"], "date": _milliseconds(last["date"])}
    return {**view, "lastCommit": change, "securityFileStatus": None}


def _sibling(path: str, entry: Entry, with_blobs: bool) -> dict[str, Any]:
    view: dict[str, Any] = {"rfilename": path}
    if with_blobs:
        view |= {"size": entry["size"], "blobId": entry["oid"]}
        view |= {"lfs": lfs_info(entry)} if entry["lfs"] else {}
    return view


def _ref(name: str, kind: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}


def _milliseconds(moment: str) -> str:
    """`2025-06-20T03:57:00.000Z`; the Hub client refuses a time without an offset."""
    return moment[:23] + "Z"
