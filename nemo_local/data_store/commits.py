"""Stores commits: one row holds what history shows, another the files, which may be many.

{"parent": "SHA or null", "title": …, "message": …, "date": …, "contents": ["SHA-256 it wrote"]}
{"files": {"training/training.jsonl": {…}}}
"""

from __future__ import annotations

import hashlib
import json

from nemo_local.core.documents import Document, Documents
from nemo_local.data_store.tree import Files

COMMIT, FILES = "commit", "commit_files"


class Commits:
    """The commits of all repositories; a repository is known by its id."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def create(
        self,
        repo_id: str,
        parent: str | None,
        files: Files,
        written: set[str],
        title: str,
        message: str,
    ) -> str:
        """The SHA of a new commit with these files; `written` are the paths that it wrote."""
        now = self._documents.now()
        identity = [repo_id, parent, title, message, now, files]
        text = json.dumps(identity, sort_keys=True).encode()
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        marked = {
            path: {**entry, "commit": sha} if path in written else entry
            for path, entry in files.items()
        }
        document = {
            "parent": parent,
            "title": title,
            "message": message,
            "date": now,
            "contents": sorted({files[path]["sha256"] for path in written}),
        }
        self._documents.create(FILES, repo_id, sha, {"files": marked})
        self._documents.create(COMMIT, repo_id, sha, document)
        return sha

    def get(self, repo_id: str, sha: str) -> Document:
        """A commit as history shows it. Raises NotFound."""
        return self._documents.get(COMMIT, repo_id, sha)

    def files(self, commit: Document) -> Files:
        """All files of a commit, untouched ones included. Raises NotFound once it was forgotten."""
        if "files" in commit:  # in homes older than December 2026 one row held all
            return dict(commit["files"])
        found = self._documents.get(FILES, commit["namespace"], commit["name"])
        return dict(found["files"])

    def all(self, repo_id: str) -> dict[str, Document]:
        """Every commit as history shows it, by SHA, oldest first."""
        return {
            commit["name"]: commit for commit in self._documents.each(COMMIT, namespace=repo_id)
        }

    def contents(self, **columns: str) -> set[str]:
        """SHA-256 of every content that commits name: all, or those of one `namespace=repo_id`."""
        found = set[str]()
        for commit in self._documents.each(COMMIT, **columns):
            # What a commit did not write itself, another one of its repository did.
            found.update(commit.get("contents", ()))
            found.update(entry["sha256"] for entry in commit.get("files", {}).values())
        return found

    def repositories(self) -> set[str]:
        """The ids of all repositories that have commits."""
        return self._documents.namespaces(COMMIT) | self._documents.namespaces(FILES)

    def forget(self, repo_id: str) -> None:
        """Delete all commits of a repository."""
        for kind in (COMMIT, FILES):
            self._documents.delete_all(kind, repo_id)
