"""File contents by SHA-256: written to a temporary file, synced, then renamed into place.

An empty file in `incoming`, named by a SHA-256, marks a content that may not belong to any commit.
The file `databases` lists the id of each database the contents were served with, one per line.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A stored content: its hashes and its size."""

    sha256: str
    size: int
    """Bytes."""
    git_oid: str
    """SHA-1 of the content as a Git blob, what a client compares its local file with."""


class Blobs:
    """A folder of contents; the same content is stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)

    def remove_interrupted(self, database: str, named: Callable[[], set[str]]) -> None:
        """Delete contents that no commit names; call before serving.

        `named()` gives the SHA-256 of every content that a commit of the database with this id
        names; called only if needed. No content is deleted once the folder was served with another
        database, whose commits may name any of them.
        """
        left = list(self.incoming.iterdir())
        marked = {path.name for path in left if self.size(path.name) is not None}
        if self._note_database(database) == {database}:
            for sha256 in marked - (named() if marked else set()):
                self.path(sha256).unlink()
        else:
            left = [path for path in left if path.name not in marked]
        for path in left:
            path.unlink()

    def _note_database(self, database: str) -> set[str]:
        """The ids of the databases of earlier starts; this one is added for later starts."""
        with (self.folder / "databases").open("a+") as file:
            file.seek(0)
            noted = set(file.read().split())
            if database not in noted:
                file.write(f"{database}\n")
        return noted

    def mark_unnamed(self, sha256: str) -> None:
        """Have the content deleted at the next start unless a commit names it by then."""
        (self.incoming / sha256).touch()

    def keep(self, sha256: str) -> None:
        """Remove the content's mark, since a commit names it."""
        (self.incoming / sha256).unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Bytes of the content, or None when it is not stored."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def writer(self) -> BlobWriter:
        """A context manager that writes one content; without `commit()` it is discarded."""
        return BlobWriter(self)

    def put(self, content: bytes) -> Blob:
        """Store the content."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit()


class BlobWriter:
    """Writes one content to a temporary file, and hashes it on the way."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        descriptor, name = tempfile.mkstemp(dir=blobs.incoming)
        self._file: BinaryIO = os.fdopen(descriptor, "w+b")
        self._path = Path(name)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self.size += len(chunk)
        self._file.write(chunk)

    @property
    def sha256(self) -> str:
        """Digest of what was written so far."""
        return self._sha256.hexdigest()

    def commit(self) -> Blob:
        """The stored content; after this it survives a crash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        blob = Blob(self.sha256, self.size, self._git_oid())
        self._file.close()
        target = self._blobs.path(blob.sha256)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            self._blobs.mark_unnamed(blob.sha256)
            os.replace(self._path, target)
            for folder in (target.parent, self._blobs.folder):
                _sync_folder(folder)
        self.close()
        return blob

    def close(self) -> None:
        """Drop whatever was not committed."""
        try:
            self._file.close()
        finally:
            self._path.unlink(missing_ok=True)

    def _git_oid(self) -> str:
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


def git_oid(content: bytes) -> str:
    """SHA-1 of a small content as a Git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
