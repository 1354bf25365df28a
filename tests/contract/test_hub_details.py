"""What the Hub's clients ask beside files: what to leave out, who changed a folder, selections."""

from __future__ import annotations

import hashlib
import subprocess

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

pytestmark = pytest.mark.contract

HUB_API = "/v1/hf/api/datasets/ns/d"
DATASET = {"repo_id": "ns/d", "repo_type": "dataset"}


@pytest.fixture
def hf(control_plane) -> HfApi:
    api = control_plane.hf()
    api.create_repo(**DATASET)
    return api


@pytest.fixture
def folder(tmp_path):
    for path in ("rows.jsonl", "k.secret", "build/o", "deep/k.secret"):
        (tmp_path / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / path).write_text(path)
    return tmp_path / "files"


RULES = "*.secret\nbuild/\n!\n[z-a]\n"


def test_a_folder_is_uploaded_without_what_its_gitignore_leaves_out(hf, folder):
    (folder / ".gitignore").write_text(RULES)
    hf.upload_folder(folder_path=folder, **DATASET)
    assert hf.list_repo_files(**DATASET) == [".gitattributes", ".gitignore", "rows.jsonl"]


def test_the_gitignore_of_the_repository_counts_when_none_is_sent(hf, folder):
    hf.upload_folder(folder_path=folder, **DATASET)
    hf.upload_file(path_or_fileobj=RULES.encode(), path_in_repo=".gitignore", **DATASET)
    (folder / "new.secret").write_text("s")
    (folder / "new.jsonl").write_text("n")
    hf.upload_folder(folder_path=folder, **DATASET)
    files = hf.list_repo_files(**DATASET)
    assert "new.jsonl" in files and "new.secret" not in files and "k.secret" in files


def test_a_folder_is_dated_by_the_newest_commit_below_it(hf):
    first = hf.upload_file(path_or_fileobj=b"1", path_in_repo="old/deep/a", **DATASET)
    second = hf.upload_file(path_or_fileobj=b"2", path_in_repo="new/b", **DATASET)
    folders = {"old": first.oid, "old/deep": first.oid, "new": second.oid}
    tree = hf.list_repo_tree(**DATASET, recursive=True, expand=True)
    assert {item.path: item.last_commit.oid for item in tree if item.path in folders} == folders
    found = hf.get_paths_info("ns/d", list(folders), repo_type="dataset", expand=True)
    assert {item.path: item.last_commit.oid for item in found} == folders


def test_a_folder_has_the_oid_of_the_same_tree_in_git(hf, tmp_path):
    files = {"a/b/one": b"1", "a/b.txt": b"2", "a/b0": b"3", "a/c": b"4"}
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    hf.upload_folder(folder_path=tmp_path, **DATASET)
    tree = {item.path: item for item in hf.list_repo_tree(**DATASET)}

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    git("add", "a")
    assert tree["a"].tree_id == git("rev-parse", git("write-tree") + ":a")
    hf.upload_file(path_or_fileobj=b"5", path_in_repo="a/b/one", **DATASET)
    changed = {item.path: item for item in hf.list_repo_tree(**DATASET)}
    assert changed["a"].tree_id != tree["a"].tree_id


@pytest.mark.parametrize(
    "selection",
    [
        {"gated": True},
        {"pipeline_tag": "text-generation"},
        {"inference": "warm"},
        {"inference_provider": "all"},
        {"num_parameters": "min:6B"},
        {"apps": "vllm"},
        {"trained_dataset": "xlam"},
        {"filter": "peft"},
    ],
    ids=lambda selection: "-".join(selection),
)
def test_a_selection_by_what_no_repository_has_selects_none(hf, selection):
    hf.create_repo("ns/m")
    assert list(hf.list_models(**selection)) == []


def test_a_selection_that_fits_selects(hf):
    hf.create_repo("ns/m")
    for selection in ({"gated": False}, {"search": "M"}, {"limit": 1}, {"author": "ns"}):
        assert [model.id for model in hf.list_models(**selection)] == ["ns/m"]
    assert [data.id for data in hf.list_datasets(gated=False)] == ["ns/d"]
    assert list(hf.list_datasets(gated=True)) == list(hf.list_datasets(language="en")) == []


def test_no_paths_at_all_are_no_mistake(hf):
    assert hf.get_paths_info("ns/d", [], repo_type="dataset") == []


CREATE = "/v1/hf/api/repos/create"
BATCH = "/v1/hf/datasets/ns/d.git/info/lfs/objects/batch"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (CREATE, '{"name": "\\ud83d"}', "half of a surrogate pair"),
        (BATCH, '{"operation": "upload", "objects": [{"size": NaN}]}', "NaN is not a JSON number"),
        (f"{HUB_API}/paths-info/main", '{"paths": [NaN]}', "NaN is not a JSON number"),
    ],
    ids=["create", "lfs", "paths"],
)
@pytest.mark.parametrize("kind", ["application/json", "application/vnd.git-lfs+json", None])
def test_json_that_cannot_be_repeated_is_refused_in_the_hub_s_shape(
    hf, control_plane, path, body, words, kind
):
    headers = {"content-type": kind} if kind else {}
    answer = httpx.post(control_plane.url + path, content=body, headers=headers)
    assert answer.status_code == 400 and words in answer.json()["error"]
    assert words in answer.headers["x-error-message"]
    assert ("message" in answer.json()) == (path == BATCH)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda hf: hf.create_repo("ns/s", repo_type="space", space_sdk="static"), "'dataset' or"),
        (lambda hf: hf.space_info("ns/s"), "no such collection: 'spaces'"),
        (lambda hf: list(hf.list_spaces()), "no such collection: 'spaces'"),
        (lambda hf: hf.move_repo("ns/d", "ns/e", repo_type="dataset"), "404.*/repos/move"),
        (lambda hf: hf.update_repo_settings(**DATASET, private=True), "404.*/ns/d/settings"),
        (lambda hf: hf.create_pull_request(**DATASET, title="t"), "404.*/ns/d/discussions"),
    ],
    ids=["new space", "space", "spaces", "move", "settings", "pull request"],
)
def test_what_the_store_does_not_do_is_refused_and_changes_nothing(hf, ask, words):
    before = hf.dataset_info("ns/d")
    with pytest.raises(HfHubHTTPError, match=words):
        ask(hf)
    assert hf.dataset_info("ns/d") == before
    assert [data.id for data in hf.list_datasets()] == ["ns/d"]


def test_a_client_may_ask_who_it_is_and_what_it_may_read(hf):
    assert hf.whoami(token="hf_any")["auth"]["accessToken"]["role"] == "write"
    hf.auth_check(**DATASET)
    with pytest.raises(RepositoryNotFoundError):
        hf.auth_check("ns/d", repo_type="model")


def test_a_readme_with_a_card_can_be_uploaded(hf):
    card = b"---\nlicense: mit\n---\n# Rows\n"
    hf.upload_file(path_or_fileobj=card, path_in_repo="README.md", **DATASET)
    assert "README.md" in hf.list_repo_files(**DATASET)


def test_an_upload_that_says_no_type_is_not_read_as_json(hf, control_plane):
    content = b"NaN \xff"
    oid = hashlib.sha256(content).hexdigest()
    assert httpx.put(f"{control_plane.hub_url}/lfs/{oid}", content=content).status_code == 200
