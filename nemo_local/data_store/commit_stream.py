"""The body of a commit, parsed while it arrives: contents go to blobs and never sit in memory.

One JSON object a line: `{"key": "header" | "file" | "lfsFile" | "deletedFile" | "deletedFolder" |
"copyFile", "value": {...}}`. A `file` carries its content as base64, of any length.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from nemo_local.core.strict_json import unrepeatable
from nemo_local.data_store.blobs import Blob, Blobs, BlobWriter
from nemo_local.data_store.errors import bad_payload

MAX_LINE = 1 << 20
"""Bytes a line may have besides its content."""

KEYS = ("header", "file", "lfsFile", "deletedFile", "deletedFolder", "copyFile")

# Quotes inside JSON strings are escaped, so this cannot match within a path.
_CONTENT = re.compile(rb'"content"\s*:\s*"')
# JSON may write "/" as "\/", and base64 may have line breaks.
_OTHER_ESCAPE = re.compile(rb"\\(?![/nr])")


@dataclass(frozen=True)
class Operation:
    """One line: what to do, and the stored content of a `file`."""

    key: str
    value: dict[str, Any]
    blob: Blob | None = None


class CommitParser:
    """Feed it chunks, then `finish()`; `close()` drops a content that was cut off."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._line = bytearray()
        self._base64 = b""
        self._writer: BlobWriter | None = None
        self._blob: Blob | None = None
        self._operations: list[Operation] = []

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes. Raises HubError 400 when they cannot belong to a commit."""
        at = 0
        while at < len(chunk):
            at = self._feed_content(chunk, at) if self._writer else self._feed_text(chunk, at)

    def finish(self) -> list[Operation]:
        """Every operation, the header first. Raises HubError 400 when the body is incomplete."""
        if self._writer:
            raise bad_payload("the commit ends in the middle of a file's content")
        self._end_line()
        if not self._operations or self._operations[0].key != "header":
            raise bad_payload("a commit starts with a line whose key is 'header'")
        return self._operations

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None

    def _feed_text(self, chunk: bytes, at: int) -> int:
        """Take what belongs to the line's JSON; return where the rest begins."""
        newline = chunk.find(b"\n", at)
        start = len(self._line)
        self._line += chunk[at:] if newline < 0 else chunk[at:newline]
        content = None if self._blob else _CONTENT.search(self._line)
        if content:
            end = content.end()
            del self._line[end:]
            self._writer = self._blobs.writer()
            return at + end - start
        if len(self._line) > MAX_LINE:
            raise bad_payload(f"a commit line has more than {MAX_LINE} bytes beside its content")
        if newline < 0:
            return len(chunk)
        self._end_line()
        return newline + 1

    def _feed_content(self, chunk: bytes, at: int) -> int:
        """Decode up to the closing quote; return where it stands."""
        assert self._writer
        quote = chunk.find(b'"', at)
        text = self._base64 + (chunk[at:] if quote < 0 else chunk[at:quote])
        # Half an escape waits for the next chunk.
        half = b"\\" if quote < 0 and text.endswith(b"\\") else b""
        text = _unescaped(text.removesuffix(half))
        # The last base64 group waits too: only it may be padded.
        whole = len(text) if quote >= 0 else max(len(text) - 1, 0) // 4 * 4
        if whole < len(text) and text[:whole].endswith(b"="):
            raise bad_payload("a file's content is not base64: it goes on after its padding")
        try:
            self._writer.write(binascii.a2b_base64(text[:whole], strict_mode=True))
        except binascii.Error as error:
            raise bad_payload(f"a file's content is not base64: {error}") from None
        self._base64 = text[whole:] + half
        if quote < 0:
            return len(chunk)
        self._blob = self._writer.commit()
        self._writer = None
        return quote

    def _end_line(self) -> None:
        line, blob = bytes(self._line), self._blob
        self._line.clear()
        self._blob = None
        if not line.strip():
            return
        number = len(self._operations) + 1
        try:
            parsed = json.loads(line.decode())
            problem = unrepeatable(line)
            key, value = parsed["key"], parsed["value"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise bad_payload(f'commit line {number} is not {{"key": ..., "value": ...}}') from None
        if problem:
            raise bad_payload(f"commit line {number}: {problem}")
        if key not in KEYS or not isinstance(value, dict):
            raise bad_payload(f"commit line {number} has the unknown key {key!r}")
        if key == "file" and (blob is None or value.get("encoding", "base64") != "base64"):
            raise bad_payload(f"commit line {number}: a file needs its content as base64")
        self._operations.append(Operation(key, value, blob))


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    if _OTHER_ESCAPE.search(text):
        raise bad_payload("a file's content is not base64: it has a backslash")
    return text.replace(b"\\n", b"").replace(b"\\r", b"").replace(b"\\/", b"/")
