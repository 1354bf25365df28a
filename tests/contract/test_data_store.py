"""The Hub's own clients against a running Data Store."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.lfs import lfs_upload, post_lfs_batch_info

from nemo_local.pocket_dataset import REPO
from tests.conftest import running_control_plane
from utils import xlam
from utils.data_store import load_rows

pytestmark = pytest.mark.contract

DATASET = {"repo_id": "ns/xlam", "repo_type": "dataset"}
ROWS = [{"query": f"question {n}", "answers": "[]"} for n in range(20)]


def jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hf(control_plane) -> HfApi:
    api = control_plane.hf()
    api.create_repo(**DATASET)
    return api


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("training", "validation", "testing"):
        path = tmp_path / "files" / name / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(jsonl(ROWS))
    return tmp_path / "files"


def test_a_new_repository_has_attributes_and_a_commit(hf):
    info = hf.dataset_info("ns/xlam")
    assert hf.list_repo_files(**DATASET) == [".gitattributes"]
    assert info.id == "ns/xlam" and len(info.sha) == 40 and info.author == "ns"
    assert info.created_at <= info.last_modified
    assert hf.repo_exists(**DATASET) and not hf.repo_exists("ns/xlam", repo_type="model")


def test_a_second_create_is_a_conflict_unless_it_may_exist(hf):
    with pytest.raises(HfHubHTTPError, match="409"):
        hf.create_repo(**DATASET)
    assert hf.create_repo(**DATASET, exist_ok=True).repo_id == "ns/xlam"


def test_an_uploaded_file_comes_back(hf, tmp_path):
    commit = hf.upload_file(path_or_fileobj=jsonl(ROWS), path_in_repo="training/a.jsonl", **DATASET)
    assert len(commit.oid) == 40
    for revision in ("main", commit.oid):
        path = hf.hf_hub_download(
            filename="training/a.jsonl", revision=revision, cache_dir=tmp_path / "cache", **DATASET
        )
        assert Path(path).read_bytes() == jsonl(ROWS)


def test_a_file_object_comes_back(hf, tmp_path):
    stream = io.BytesIO(b"\x00\xff" * 100_000)
    hf.upload_file(path_or_fileobj=stream, path_in_repo="weights.bin", **DATASET)
    path = hf.hf_hub_download(filename="weights.bin", cache_dir=tmp_path, **DATASET)
    assert Path(path).read_bytes() == stream.getvalue()


def test_a_folder_comes_back_as_a_snapshot(hf, folder, tmp_path):
    hf.upload_folder(folder_path=folder, **DATASET)
    snapshot = Path(hf.snapshot_download(cache_dir=tmp_path / "cache", **DATASET))
    for path in folder.rglob("*.jsonl"):
        assert (snapshot / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_uploading_the_same_folder_again_makes_no_commit(hf, folder):
    first = hf.upload_folder(folder_path=folder, **DATASET)
    second = hf.upload_folder(folder_path=folder, **DATASET)
    assert first.oid == second.oid
    assert len(hf.list_repo_commits(**DATASET)) == 2


def test_a_folder_upload_can_delete_what_is_gone(hf, folder):
    hf.upload_file(path_or_fileobj=b"old", path_in_repo="training/old.jsonl", **DATASET)
    hf.upload_folder(folder_path=folder, delete_patterns="training/old*", **DATASET)
    assert "training/old.jsonl" not in hf.list_repo_files(**DATASET)


def test_a_large_folder_arrives(hf, folder):
    for n in range(300):
        (folder / f"part-{n}.txt").write_text(str(n))
    hf.upload_folder(folder_path=folder, **DATASET)
    assert len(hf.list_repo_files(**DATASET)) == 304


def test_a_revision_never_changes(hf, tmp_path):
    first = hf.upload_file(path_or_fileobj=b"one", path_in_repo="a", **DATASET)
    hf.create_tag(**DATASET, tag="v1", tag_message="the first")
    hf.upload_file(path_or_fileobj=b"two", path_in_repo="a", **DATASET)

    def read(revision: str) -> bytes:
        return Path(
            hf.hf_hub_download(filename="a", revision=revision, cache_dir=tmp_path, **DATASET)
        ).read_bytes()

    assert (read("v1"), read(first.oid), read("main")) == (b"one", b"one", b"two")


def test_no_branch_or_tag_can_hide_a_commit(hf):
    (first,) = hf.list_repo_commits(**DATASET)
    for create in (
        lambda: hf.create_branch(**DATASET, branch=first.commit_id),
        lambda: hf.create_tag(**DATASET, tag=first.commit_id),
    ):
        with pytest.raises(HfHubHTTPError, match="already has a revision"):
            create()


def test_a_name_that_no_path_can_end_with_is_no_branch(hf):
    with pytest.raises(HfHubHTTPError, match="not a name for a branch"):
        hf.create_branch(**DATASET, branch="feature/")


def test_tags_and_branches_can_be_made_listed_and_deleted(hf):
    hf.create_tag(**DATASET, tag="cust-FarcM8gwhL1XFDXQ57qGLL")
    hf.create_branch(**DATASET, branch="feature/one")
    refs = hf.list_repo_refs(**DATASET)
    assert [tag.name for tag in refs.tags] == ["cust-FarcM8gwhL1XFDXQ57qGLL"]
    assert [branch.name for branch in refs.branches] == ["main", "feature/one"]
    hf.upload_file(path_or_fileobj=b"x", path_in_repo="x", revision="feature/one", **DATASET)
    assert "x" in hf.list_repo_files(**DATASET, revision="feature/one")
    assert "x" not in hf.list_repo_files(**DATASET)
    with pytest.raises(HfHubHTTPError, match="409"):
        hf.create_tag(**DATASET, tag="cust-FarcM8gwhL1XFDXQ57qGLL")
    hf.delete_tag(**DATASET, tag="cust-FarcM8gwhL1XFDXQ57qGLL")
    hf.delete_branch(**DATASET, branch="feature/one")
    assert hf.list_repo_refs(**DATASET).tags == []


def test_files_can_be_deleted_and_described(hf, folder):
    hf.upload_folder(folder_path=folder, **DATASET)
    hf.delete_file("testing/testing.jsonl", **DATASET)
    hf.delete_folder("validation", **DATASET)
    paths = [item.path for item in hf.list_repo_tree(**DATASET, recursive=True)]
    assert paths == [".gitattributes", "training", "training/training.jsonl"]
    assert [item.path for item in hf.list_repo_tree(**DATASET, path_in_repo="training")] == [
        "training/training.jsonl"
    ]
    (info,) = hf.get_paths_info(
        "ns/xlam", ["training/training.jsonl", "no"], repo_type="dataset", expand=True
    )
    assert info.size == len(jsonl(ROWS)) and info.last_commit.title
    assert hf.file_exists("ns/xlam", "training/training.jsonl", repo_type="dataset")
    with pytest.raises(EntryNotFoundError):
        hf.delete_file("testing/testing.jsonl", **DATASET)


def test_a_failing_commit_changes_nothing(hf):
    head = hf.dataset_info("ns/xlam").sha
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationDelete("not-there.txt", is_folder=False),
    ]
    with pytest.raises(EntryNotFoundError):
        hf.create_commit(**DATASET, operations=operations, commit_message="half")
    assert hf.dataset_info("ns/xlam").sha == head


def test_a_commit_on_an_old_parent_is_refused(hf):
    head = hf.dataset_info("ns/xlam").sha
    hf.upload_file(path_or_fileobj=b"1", path_in_repo="a", **DATASET)
    with pytest.raises(HfHubHTTPError, match="412"):
        hf.upload_file(path_or_fileobj=b"2", path_in_repo="a", parent_commit=head, **DATASET)


def test_what_is_missing_is_named(hf):
    with pytest.raises(RepositoryNotFoundError):
        hf.dataset_info("ns/nothing")
    with pytest.raises(RevisionNotFoundError):
        hf.dataset_info("ns/xlam", revision="v9")
    with pytest.raises(RevisionNotFoundError):
        hf.list_repo_files(**DATASET, revision="refs/pr/1")
    with pytest.raises(EntryNotFoundError):
        hf.hf_hub_download(filename="no", **DATASET)
    with pytest.raises(HfHubHTTPError, match="create_pr is not supported"):
        hf.upload_file(path_or_fileobj=b"1", path_in_repo="a", create_pr=True, **DATASET)


def test_models_and_datasets_of_one_name_live_side_by_side(hf):
    hf.create_repo("ns/xlam", repo_type="model")
    hf.upload_file(path_or_fileobj=b"{}", path_in_repo="adapter_config.json", repo_id="ns/xlam")
    assert hf.list_repo_files("ns/xlam") == [".gitattributes", "adapter_config.json"]
    assert [model.id for model in hf.list_models(author="ns")] == ["ns/xlam"]
    assert [data.id for data in hf.list_datasets(search="XLA")] == ["ns/xlam"]
    hf.delete_repo(**DATASET)
    assert not hf.repo_exists(**DATASET) and hf.repo_exists("ns/xlam")
    hf.delete_repo(**DATASET, missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        hf.delete_repo(**DATASET)


def test_a_repository_created_again_is_empty(hf):
    hf.upload_file(path_or_fileobj=b"x", path_in_repo="x", **DATASET)
    old = hf.dataset_info("ns/xlam").sha
    hf.delete_repo(**DATASET)
    hf.create_repo(**DATASET)
    assert hf.list_repo_files(**DATASET) == [".gitattributes"]
    with pytest.raises(RevisionNotFoundError):
        hf.dataset_info("ns/xlam", revision=old)


def test_blocks_of_a_file_can_be_read(hf):
    content = bytes(range(256)) * 40
    hf.upload_file(path_or_fileobj=content, path_in_repo="block.bin", **DATASET)
    files = HfFileSystem(endpoint=hf.endpoint, token=False)
    with files.open("datasets/ns/xlam/block.bin", block_size=512) as opened:
        opened.seek(5000)
        assert opened.read(10) == content[5000:5010]
    assert files.ls("datasets/ns/xlam", detail=False) == [
        "datasets/ns/xlam/.gitattributes",
        "datasets/ns/xlam/block.bin",
    ]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning:httpx")  # huggingface_hub's
def test_lfs_works_on_a_platform_with_a_token(settings):
    content = b"weights" * 100
    operation = CommitOperationAdd("weights.bin", content)
    with running_control_plane(replace(settings, token="secret")) as running:
        hf = running.hf()
        hf.create_repo(**DATASET)
        where = {"token": "secret", "endpoint": hf.endpoint}
        (action,), _, _ = post_lfs_batch_info([operation.upload_info], **where, **DATASET)
        href = action["actions"]["upload"]["href"]
        assert httpx.put(href.partition("?")[0], content=content).status_code == 401
        assert httpx.get(href).status_code == 401
        lfs_upload(operation, action, **where)
        batch = f"{hf.endpoint}/datasets/ns/xlam.git/info/lfs/objects/batch"
        wanted = {"oid": operation.upload_info.sha256.hex(), "size": len(content)}
        headers = {"authorization": "Bearer secret"}
        body = {"operation": "download", "objects": [wanted]}
        (known,) = httpx.post(batch, json=body, headers=headers).json()["objects"]
        download = known["actions"]["download"]
        assert httpx.get(download["href"], headers=download["header"]).content == content
        assert httpx.get(download["href"]).status_code == 401


def test_an_id_without_a_namespace_is_a_repository_that_does_not_exist(hf):
    for repo_type in ("dataset", "model"):
        assert hf.repo_exists("gpt2", repo_type=repo_type) is False
        assert hf.revision_exists("gpt2", "main", repo_type=repo_type) is False
        assert hf.file_exists("gpt2", "config.json", repo_type=repo_type) is False
        with pytest.raises(RepositoryNotFoundError):
            hf.list_repo_files("gpt2", repo_type=repo_type)
        with pytest.raises(RepositoryNotFoundError):
            hf.upload_file(
                path_or_fileobj=b"x", path_in_repo="x", repo_id="gpt2", repo_type=repo_type
            )
    with pytest.raises(HfHubHTTPError) as missing:
        hf.get_discussion_details(**DATASET, discussion_num=1)
    assert not isinstance(missing.value, RepositoryNotFoundError)


def test_more_than_a_thousand_paths_can_be_asked_for_at_once(hf):
    paths = [".gitattributes", *(f"part-{n}" for n in range(3000))]
    (info,) = hf.get_paths_info("ns/xlam", paths, repo_type="dataset")
    assert info.path == ".gitattributes"


def test_the_parent_of_a_commit_may_be_given_by_its_first_seven_signs(hf):
    first = hf.dataset_info("ns/xlam").sha
    where = {"path_in_repo": "a", **DATASET}
    second = hf.upload_file(path_or_fileobj=b"1", parent_commit=first[:7], **where).oid
    for parent in (first[:7], second[:6]):
        with pytest.raises(HfHubHTTPError, match="412"):
            hf.upload_file(path_or_fileobj=b"2", parent_commit=parent, **where)


SCRIPT = """
import datasets, sys
loaded = datasets.load_dataset("ns/xlam")
print({name: split.num_rows for name, split in loaded.items()})
one = datasets.load_dataset("json", data_files="hf://datasets/ns/xlam/testing/testing.jsonl")
print(one["train"][3]["query"])
"""


def test_datasets_loads_the_three_splits(hf, folder, tmp_path):
    hf.upload_folder(folder_path=folder, **DATASET)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hf.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONWARNINGS": "default",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "{'train': 20, 'validation': 20, 'test': 20}" in done.stdout
    assert "question 3" in done.stdout


def test_rows_that_the_hf_command_uploads_are_those_that_the_notebooks_load(
    control_plane, tmp_path
):
    row = {"query": "q", "tools": "[]", "answers": "[]"}
    (tmp_path / "rows.jsonl").write_bytes(jsonl([row]))
    command = "upload me/rows rows.jsonl data/train.jsonl --repo-type dataset".split()
    environment = {
        **os.environ,
        "HF_ENDPOINT": control_plane.hub_url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    subprocess.run(
        [Path(sys.executable).with_name("hf"), *command], cwd=tmp_path, env=environment, check=True
    )
    rows = load_rows(control_plane.hub_url, "me/rows", None, columns=xlam.COLUMNS)
    assert list(rows) == [row | {"id": "row 1"}]


PUSH = """
import datasets
rows = datasets.Dataset.from_dict({"query": ["a"]})
try:
    rows.push_to_hub("ns/xlam", token="any")
except FileNotFoundError as error:
    print("refused:", error)
rows.to_parquet("hf://datasets/ns/xlam/data/train.parquet")
"""


def test_push_to_hub_of_datasets_fails_and_writing_the_file_does_what_it_should(hf, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hf.endpoint, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", PUSH], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout and ".parquet" in done.stdout
    assert hf.list_repo_files(**DATASET) == [".gitattributes", "data/train.parquet"]


def test_the_pocket_data_set_is_published(platform, tmp_path):
    path = platform.hf().hf_hub_download(
        repo_id=REPO, repo_type="dataset", filename="data/train.jsonl", cache_dir=tmp_path
    )
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(rows) == platform.settings.dataset_rows
    assert list(rows[0]) == ["id", "query", "tools", "answers"]
    assert isinstance(json.loads(rows[0]["tools"]), list)
