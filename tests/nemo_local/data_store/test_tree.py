"""The files of a commit."""

import pytest

from nemo_local.data_store import tree
from nemo_local.data_store.blobs import Blob
from nemo_local.data_store.commit_stream import Operation
from nemo_local.data_store.errors import HubError
from nemo_local.data_store.views import path_view

BLOB = Blob("0" * 64, 3, "1" * 40)
FILES = {path: tree.regular_entry(BLOB) for path in ("README.md", "a/one", "a/b/two")}


def apply(*operations, files=FILES, stored=3):
    parsed = [Operation(key, value, BLOB if key == "file" else None) for key, value in operations]
    return tree.apply(files, parsed, "ns/r", lambda _: stored, lambda _: FILES)


@pytest.mark.parametrize(
    "path",
    ["../a", "a/../../b", "/etc/passwd", "a//b", "a/./b", "", "a\\b", "a\x00", ".git/config", 5]
    + ["x" * 1025],
)
def test_a_path_that_could_leave_is_refused(path):
    with pytest.raises(HubError) as refused:
        tree.clean_path(path)
    assert refused.value.status == 400


def test_operations_add_copy_and_delete():
    files, written = apply(
        ("file", {"path": "new"}),
        ("copyFile", {"path": "copy", "srcPath": "a/one"}),
        ("deletedFile", {"path": "README.md"}),
        ("deletedFolder", {"path": "a/b/"}),
    )
    assert set(files) == {"a/one", "new", "copy"} and written == {"new", "copy"}
    assert len(FILES) == 3


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (("deletedFile", {"path": "no"}), 404),
        (("deletedFolder", {"path": "no"}), 404),
        (("copyFile", {"path": "x", "srcPath": "no"}), 404),
        (("copyFile", {"path": "x", "srcPath": []}), 400),
        (("copyFile", {"path": "x", "srcPath": "a/one", "srcRevision": [1]}), 400),
        (("file", {"path": None}), 400),
        (("file", {}), 400),
        (("file", {"path": "../x"}), 400),
        (("file", {"path": "a"}), 400),
        (("file", {"path": "a/one/x"}), 400),
        (("header", {"path": "x"}), 400),
        (("lfsFile", {"path": "x", "oid": "short"}), 400),
        (("lfsFile", {"path": "x", "oid": "a" * 64, "size": 4}), 400),
    ],
    ids=str,
)
def test_a_bad_operation_is_refused(operation, status):
    with pytest.raises(HubError) as refused:
        apply(operation)
    assert refused.value.status == status


def test_an_object_that_was_not_uploaded_is_refused():
    with pytest.raises(HubError, match="before the commit"):
        apply(("lfsFile", {"path": "x", "oid": "a" * 64, "size": 3}), stored=None)


@pytest.mark.parametrize(
    ("folder", "recursive", "expected"),
    [
        ("", False, ["README.md", "a"]),
        ("", True, ["README.md", "a", "a/b", "a/b/two", "a/one"]),
        ("a", False, ["a/b", "a/one"]),
        ("a/b", True, ["a/b/two"]),
        ("no", False, []),
    ],
)
def test_a_folder_lists_what_is_in_it_and_all_below_when_asked(folder, recursive, expected):
    assert [path for path, _ in tree.listing(FILES, folder, recursive)] == expected


def test_an_lfs_file_shows_its_pointer():
    files, _ = apply(("lfsFile", {"path": "x", "oid": "a" * 64}), stored=10)
    view = path_view("x", files["x"], files["x"]["oid"])
    assert view["lfs"]["oid"] == "a" * 64 and view["size"] == 10
    assert view["oid"] != "a" * 64 and view["lfs"]["pointerSize"] == 127
