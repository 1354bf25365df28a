"""What a deletion takes away, and what it must leave."""

import pytest

from nemo_local.data_store import tree
from nemo_local.data_store.commit_stream import Operation
from nemo_local.data_store.errors import HubError
from tests.nemo_local.data_store.test_tree import BLOB


@pytest.fixture
def repo(service):
    return service.create_repo("dataset", "ns", "d")


def test_deleting_a_folder_keeps_files_whose_names_begin_like_it():
    paths = ("a/b/one", "a/b/c/two", "a/bc", "a/b.txt", "a/bc/three", "b/four")
    files = {path: tree.regular_entry(BLOB) for path in paths}
    delete = Operation("deletedFolder", {"path": "a/b"})
    left, _ = tree.apply(files, [delete], "ns/r", lambda _: 3, lambda _: files)
    assert sorted(left) == ["a/b.txt", "a/bc", "a/bc/three", "b/four"]


def test_the_main_branch_cannot_be_deleted_and_a_tag_of_that_name_is_another_thing(service, repo):
    with pytest.raises(HubError, match="'main' cannot be deleted") as refused:
        service.delete_ref(repo, "branches", "main")
    assert refused.value.status == 400
    service.create_ref(repo, "branches", "next", "main")
    service.delete_ref(service.repo("dataset", "ns/d"), "branches", "next")
    assert list(service.repo("dataset", "ns/d")["branches"]) == ["main"]
    with pytest.raises(HubError, match="main") as refused:
        service.delete_ref(repo, "tags", "main")
    assert refused.value.status == 404


def test_nothing_is_left_of_the_history_of_a_deleted_repository(service, repo, documents):
    other = service.create_repo("model", "ns", "d")
    service.commit(repo, "main", [Operation("header", {"summary": "s"})])
    assert len(documents.all("commit", namespace=repo["id"])) == 2
    service.delete_repo("dataset", "ns/d")
    assert documents.all("commit", namespace=repo["id"]) == []
    assert len(documents.all("commit", namespace=other["id"])) == 1
