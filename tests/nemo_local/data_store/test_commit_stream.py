"""Commits parsed from a stream."""

import base64
import hashlib
import json
import time
from typing import Any

import pytest

from nemo_local.data_store.blobs import Blobs
from nemo_local.data_store.commit_stream import MAX_LINE, CommitParser
from nemo_local.data_store.errors import HubError

HEADER: dict[str, Any] = {
    "key": "header",
    "value": {"summary": 'with "content": "inside', "description": ""},
}


@pytest.fixture
def blobs(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    blobs.remove_interrupted("database-1", set)
    return blobs


def file_line(path: str, content: bytes, **more):
    value = {"content": base64.b64encode(content).decode(), "path": path, "encoding": "base64"}
    return {"key": "file", "value": {**value, **more}}


def parse(blobs, *lines, size=None, text=None):
    body = text if text is not None else "".join(json.dumps(line) + "\n" for line in lines).encode()
    parser = CommitParser(blobs)
    try:
        for start in range(0, len(body), size or len(body) or 1):
            parser.feed(body[start : start + (size or len(body))])
        return parser.finish()
    finally:
        parser.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_chunks_may_be_cut_anywhere(blobs, size):
    contents = {"a": b"", "b/c": b"x", 'q"uote': b"xy", "big": bytes(range(256)) * 9}
    lines = [HEADER, *(file_line(path, content) for path, content in contents.items())]
    header, *files = parse(blobs, *lines, {"key": "deletedFile", "value": {"path": "z"}}, size=size)
    assert header.value["summary"] == HEADER["value"]["summary"]
    for operation, (path, content) in zip(files[:-1], contents.items(), strict=True):
        assert operation.value["path"] == path
        assert blobs.path(operation.blob.sha256).read_bytes() == content
        assert operation.blob.sha256 == hashlib.sha256(content).hexdigest()
    assert files[-1].key == "deletedFile" and files[-1].blob is None


def test_the_content_may_come_last_and_with_escaped_slashes(blobs):
    content = b"\xff\xff\xff\xfe"
    text = json.dumps(HEADER) + '\n{"key":"file","value":{"path":"a","content" : "%s"}}'
    escaped = base64.b64encode(content).decode().replace("/", "\\/")
    _, operation = parse(blobs, text=(text % escaped).encode())
    assert blobs.path(operation.blob.sha256).read_bytes() == content


@pytest.mark.parametrize("size", [1, 2, 3, 5, 77, 78, 79, 100_000])
def test_base64_with_line_breaks_is_stored_as_what_it_encodes(blobs, size):
    content = bytes(range(256)) * 4
    lines = (base64.encodebytes(content), base64.encodebytes(content).replace(b"\n", b"\r\n"))
    for written in lines:
        line = {"key": "file", "value": {"content": written.decode(), "path": "a"}}
        text = "\n".join(json.dumps(item).replace("/", "\\/") for item in (HEADER, line))
        _, operation = parse(blobs, text=text.encode(), size=size)
        assert blobs.path(operation.blob.sha256).read_bytes() == content


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("content", [b"QU\\tJD", b"QU\\\\nJD", b'QU\\"JD', b"QUJD\\", b"QQ==QUJD"])
def test_what_only_looks_like_base64_is_refused(blobs, content, size):
    text = b'%s\n{"key":"file","value":{"path":"a","content":"%s"}}'
    with pytest.raises(HubError, match="not base64") as refused:
        parse(blobs, text=text % (json.dumps(HEADER).encode(), content), size=size)
    assert refused.value.status == 400


def test_eight_times_as_many_lines_take_at_most_ten_times_as_long(blobs):
    def seconds(count):
        deletions = [
            {"key": "deletedFile", "value": {"path": f"part-{n:06}"}} for n in range(count)
        ]
        text = "".join(json.dumps(line) + "\n" for line in (HEADER, *deletions)).encode()
        times = []
        for _ in range(3):
            started = time.process_time()
            assert len(parse(blobs, text=text)) == count + 1
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(8000) < 10 * seconds(1000) + 0.1


def test_the_git_oid_is_what_git_computes(blobs):
    assert blobs.put(b"hello\n").git_oid == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "starts with a line whose key is 'header'"),
        (b"[]\n", "is not"),
        (b"not json\n", "is not"),
        (b'{"key":"spell","value":{}}\n', "unknown key 'spell'"),
        (b'{"key":"file","value":{"path":"a"}}\n', "needs its content"),
        (b'{"key":"file","value":{"content":"****"}}\n', "not base64"),
        (b'{"key":"file","value":{"content":"QUJD', "middle of a file"),
        (b'{"key":"file","value":{"content":"QQ==","encoding":"utf-8"}}\n', "needs its content"),
        (b" " * (MAX_LINE + 1), "more than"),
        (b"[" * 200_000, "is not"),
        (b'{"key":"header","value":{"summary":"\\ud800"}}\n', "half of a surrogate pair"),
        (b'{"key":"header","value":{"summary":"\xed\xa0\x80"}}\n', "is not"),
        (b'{"key":"header","value":{"summary":NaN}}\n', "NaN is not a JSON number"),
    ],
    ids=["empty", "list", "text", "key", "no-content", "base64", "cut-off", "encoding", "long"]
    + ["deep", "surrogate", "raw-surrogate", "nan"],
)
def test_what_is_no_commit_is_refused(blobs, text, message):
    with pytest.raises(HubError, match=message) as refused:
        parse(blobs, text=text)
    assert refused.value.status == 400
    blobs.remove_interrupted("database-1", set)
    assert [path.name for path in blobs.folder.rglob("*") if path.is_file()] == ["databases"]
