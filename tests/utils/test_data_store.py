"""Uploads to a Data Store whose answers the Hub's client does not expect."""

import pytest
from huggingface_hub import CommitInfo, HfApi

from utils import data_store
from utils.errors import InvalidFile


class OneCommit(HfApi):
    """The Hub's client at a Data Store that answers a commit without the commit's URL."""

    def __init__(self):
        super().__init__(endpoint="http://store.example/v1/hf")
        self.committed = []

    def create_commit(self, repo_id, operations, **options):
        self.committed = [operation.path_in_repo for operation in operations]
        return CommitInfo(
            commit_url="", commit_message="", commit_description="", oid="4c1f", _endpoint=None
        )

    def dataset_info(self, repo_id, **options):
        return type("Info", (), {"sha": "4c1f"})


def test_a_commit_that_is_answered_without_its_url_counts(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    store = OneCommit()
    assert data_store.upload_files(store, "ns/d", {"a.jsonl": tmp_path / "a.jsonl"}) == "4c1f"
    assert store.committed == ["a.jsonl"]


def test_a_file_that_is_not_there_is_named_before_anything_is_sent(tmp_path):
    store = OneCommit()
    with pytest.raises(InvalidFile, match="notebook 1 writes it"):
        data_store.upload_files(store, "ns/d", {"a.jsonl": tmp_path / "a.jsonl"})
    assert store.committed == []
