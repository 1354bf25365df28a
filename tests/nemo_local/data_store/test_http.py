"""What the Data Store answers to plain HTTP: ranges, LFS, namespaces, paths, restarts."""

import hashlib
import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.middleware import BothSlashes
from nemo_local.data_store.quoted_slash import QuotedSlashes
from nemo_local.data_store.routes import router
from nemo_local.data_store.service import DataStoreService

API = "/v1/hf/api/datasets/ns/d"
RESOLVE = "/v1/hf/datasets/ns/d/resolve/main/f"


@pytest.fixture
def client(service):
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router(service))
    app.add_middleware(QuotedSlashes)
    app.add_middleware(BothSlashes)
    with TestClient(app) as test_client:
        create = {"name": "d", "organization": "ns", "type": "dataset"}
        assert test_client.post("/v1/hf/api/repos/create", json=create).status_code == 200
        yield test_client


def commit(client, *lines, revision="main"):
    header = {"key": "header", "value": {"summary": "s"}}
    body = "\n".join(json.dumps(line) for line in (header, *lines))
    return client.post(f"{API}/commit/{revision}", content=body)


@pytest.fixture
def stored(client):
    """A file `f` of ten bytes."""
    value = {"path": "f", "content": "MDEyMzQ1Njc4OQ==", "encoding": "base64"}
    assert commit(client, {"key": "file", "value": value}).status_code == 200
    return client


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=20-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_a_range_of_a_file_comes_alone_and_one_beyond_its_end_is_refused(
    stored, header, status, body
):
    answer = stored.get(RESOLVE, headers={"range": header})
    assert answer.status_code == status
    if body:
        assert answer.content == body
        assert answer.headers["content-range"].endswith("/10")


@pytest.mark.parametrize(
    "header", ["items=0-1", "bytes=abc", "bytes=5-2", "bytes=", "bytes=0-1,x", "bytes", "0-1"]
)
def test_a_range_that_is_none_is_ignored(stored, header):
    answer = stored.get(RESOLVE, headers={"range": header})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_a_range_is_for_get_alone(stored):
    answer = stored.head(RESOLVE, headers={"range": "bytes=0-1"})
    assert answer.status_code == 200 and answer.headers["content-length"] == "10"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",W/{} , "y"', "*"])
def test_a_client_that_has_the_file_in_any_form_gets_it_not_again(stored, form):
    etag = stored.head(RESOLVE).headers["etag"]
    answer = stored.get(RESOLVE, headers={"if-none-match": form.format(etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    for other in ('"x"', etag.strip('"'), 'W/"x", "y"'):
        assert stored.get(RESOLVE, headers={"if-none-match": other}).status_code == 200


@pytest.mark.parametrize("kind", ["datasets/ns/d", "ns/m"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_download_without_a_path_is_a_missing_entry(client, kind, slash):
    client.post("/v1/hf/api/repos/create", json={"name": "m", "organization": "ns"})
    url = f"/v1/hf/{kind}/resolve/main{slash}"
    for answer in (client.get(url), client.head(url)):
        assert answer.status_code == 404 and answer.headers["x-error-code"] == "EntryNotFound"
        assert len(answer.headers["x-repo-commit"]) == 40


def test_head_says_all_that_a_client_needs(stored):
    answer = stored.head(RESOLVE)
    oid = hashlib.sha1(b"blob 10\x000123456789", usedforsecurity=False).hexdigest()
    assert answer.content == b"" and answer.headers["content-length"] == "10"
    assert answer.headers["etag"] == f'"{oid}"' and len(answer.headers["x-repo-commit"]) == 40
    assert answer.headers["accept-ranges"] == "bytes"
    assert "x-xet-hash" not in answer.headers and "link" not in answer.headers
    assert stored.get(RESOLVE, headers={"if-none-match": f'"{oid}"'}).status_code == 304


def test_a_missing_entry_names_the_commit_it_is_missing_from(stored):
    answer = stored.head("/v1/hf/datasets/ns/d/resolve/main/no")
    assert answer.status_code == 404 and answer.headers["x-error-code"] == "EntryNotFound"
    assert len(answer.headers["x-repo-commit"]) == 40


def test_an_object_goes_through_lfs(client):
    content = b"weights" * 100
    oid = hashlib.sha256(content).hexdigest()
    wanted = {"oid": oid, "size": len(content)}
    batch = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [wanted]}
    url = "/v1/hf/datasets/ns/d.git/info/lfs/objects/batch"
    (answer,) = client.post(url, json=batch).json()["objects"]
    line = {"key": "lfsFile", "value": {"path": "f", "algo": "sha256", **wanted}}
    assert commit(client, line).status_code == 400
    assert client.put(answer["actions"]["upload"]["href"], content=b"other").status_code == 422
    assert client.put(answer["actions"]["upload"]["href"], content=content).status_code == 200
    assert client.post(answer["actions"]["verify"]["href"], json=wanted).status_code == 200
    assert commit(client, line).status_code == 200
    assert "actions" not in client.post(url, json=batch).json()["objects"][0]
    head = client.head(RESOLVE)
    assert head.headers["etag"] == head.headers["x-linked-etag"] == f'"{oid}"'
    assert head.headers["x-linked-size"] == str(len(content))
    (answer,) = client.post(url, json={**batch, "operation": "download"}).json()["objects"]
    assert client.get(answer["actions"]["download"]["href"]).content == content


@pytest.mark.parametrize(
    "body",
    ["x", "{}", '{"operation": "bogus", "objects": []}']
    + ['{"operation": "upload", "objects": [{"oid": "zz", "size": 1}]}'],
)
def test_git_lfs_is_told_what_is_wrong_with_its_request(client, body):
    url = "/v1/hf/datasets/ns/d.git/info/lfs/objects/batch"
    headers = {"content-type": "application/vnd.git-lfs+json"}
    answer = client.post(url, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["message"] == answer.json()["error"] != ""


def test_git_lfs_is_told_what_is_not_there(client):
    batch = {"operation": "upload", "objects": []}
    missing = client.post("/v1/hf/datasets/ns/no.git/info/lfs/objects/batch", json=batch)
    for answer in (missing, client.get("/v1/hf/lfs/" + "0" * 64)):
        assert answer.status_code == 404 and "not found" in answer.json()["message"]
    answer = client.post("/v1/hf/lfs/abc/verify", json={"oid": "0" * 64, "size": 1})
    assert answer.status_code == 422 and "is not here" in answer.json()["message"]


def test_preupload_is_always_regular_and_knows_what_is_there(stored):
    files = {"files": [{"path": "f", "size": 1, "sample": ""}, {"path": "g"}]}
    known, new = stored.post(f"{API}/preupload/main", json=files).json()["files"]
    assert known["uploadMode"] == new["uploadMode"] == "regular"
    assert not known["shouldIgnore"] and len(known["oid"]) == 40 and "oid" not in new


def test_a_commit_cannot_leave_its_repository(client, settings):
    value = {"path": "../x", "content": "QQ==", "encoding": "base64"}
    answer = commit(client, {"key": "file", "value": value})
    assert answer.status_code == 400 and "error" in answer.json()
    assert not (settings.home.parent / "x").exists()


@pytest.mark.parametrize("field", ["path", "summary", "description"])
def test_half_a_surrogate_in_a_commit_does_not_break_every_listing(client, field):
    file = {"path": "f", "content": "QQ==", "encoding": "base64"}
    header = {"summary": "s"}
    (file if field == "path" else header)[field] = "\ud800"
    lines = ({"key": "header", "value": header}, {"key": "file", "value": file})
    body = "\n".join(json.dumps(line) for line in lines)
    answer = client.post(f"{API}/commit/main", content=body)
    assert answer.status_code == 400 and "half of a surrogate pair" in answer.json()["error"]
    assert [repo["id"] for repo in client.get("/v1/hf/api/datasets").json()] == ["ns/d"]


def test_a_copy_comes_from_the_branch_that_it_is_committed_to(client):
    assert client.post(f"{API}/branch/next", json={}).status_code == 200
    file = {"key": "file", "value": {"path": "a", "content": "QQ==", "encoding": "base64"}}
    copy = {"key": "copyFile", "value": {"path": "b", "srcPath": "a"}}
    assert commit(client, file, revision="next").status_code == 200
    assert commit(client, copy).status_code == 404
    assert commit(client, copy, revision="next").status_code == 200
    paths = {item["path"] for item in client.get(f"{API}/tree/next").json()}
    assert paths == {".gitattributes", "a", "b"}


@pytest.mark.parametrize(
    ("header", "title", "message"),
    [
        ({"summary": "one\r\n\ntwo\nthree", "description": "four"}, "one", "two\nthree\n\nfour"),
        ({"summary": "\none\n"}, "one", ""),
        ({"summary": " ", "description": "four"}, "Upload files", "four"),
    ],
)
def test_a_summary_of_several_lines_is_a_title_and_a_message(client, header, title, message):
    body = json.dumps({"key": "header", "value": header})
    assert client.post(f"{API}/commit/main", content=body).status_code == 200
    newest = client.get(f"{API}/commits/main").json()[0]
    assert (newest["title"], newest["message"]) == (title, message)


@pytest.mark.parametrize("path", [None, [], {}, 5])
def test_a_path_that_is_no_text_does_not_become_a_file_called_none(client, path):
    value = {"path": path, "content": "QQ==", "encoding": "base64"}
    answer = commit(client, {"key": "file", "value": value})
    assert answer.status_code == 400 and answer.json()["error"] == f"not a path: {path!r}"
    copy = {"path": "copy", "srcPath": path}
    assert commit(client, {"key": "copyFile", "value": copy}).status_code == 400


@pytest.mark.parametrize("oid", ["%2E%2E", "a%00"], ids=["folder above", "zero byte"])
def test_an_object_whose_name_is_no_sha256_is_not_looked_for(client, oid):
    answer = client.get(f"/v1/hf/lfs/{oid}")
    assert answer.status_code == 404 and answer.json()["message"].startswith("LFS object ")


def test_an_interrupted_upload_leaves_no_trace(service, client):
    (service.blobs.folder / "incoming" / "half").write_bytes(b"what a killed process had written")
    service.start()
    assert list((service.blobs.folder / "incoming").iterdir()) == []
    assert commit(client, {"key": "file", "value": {"path": "f"}}).status_code == 400
    files = client.get(f"{API}/tree/main").json()
    assert [item["path"] for item in files] == [".gitattributes"]


def test_a_commit_goes_to_a_branch_only(stored):
    sha = stored.get(API).json()["sha"]
    line = {"key": "deletedFile", "value": {"path": "f"}}
    answer = commit(stored, line, revision=sha)
    assert answer.status_code == 404 and answer.headers["x-error-code"] == "RevisionNotFound"


def test_a_commit_to_no_branch_is_refused_before_its_contents_are_stored(client, service):
    before = list(service.blobs.folder.rglob("*"))
    file = {"path": "f", "content": "MDEyMzQ1Njc4OQ==", "encoding": "base64"}
    answer = commit(client, {"key": "file", "value": file}, revision="nothing")
    assert answer.status_code == 404 and answer.headers["x-error-code"] == "RevisionNotFound"
    assert list(service.blobs.folder.rglob("*")) == before


def test_a_content_that_the_disk_has_lost_is_named_and_can_be_uploaded_again(stored, service):
    _, entry = service.entry(service.repo("dataset", "ns/d"), "main", "f")
    service.content(entry).unlink()
    answer = stored.get(RESOLVE)
    assert answer.status_code == 410
    assert entry["sha256"] in answer.json()["error"]
    assert "upload the file again" in answer.json()["error"]
    (known,) = stored.post(f"{API}/preupload/main", json={"files": [{"path": "f"}]}).json()["files"]
    assert "oid" not in known  # or a client would find its file unchanged and not send it
    value = {"path": "f", "content": "MDEyMzQ1Njc4OQ==", "encoding": "base64"}
    assert commit(stored, {"key": "file", "value": value}).status_code == 200
    assert stored.get(RESOLVE).content == b"0123456789"


def test_dates_in_a_tree_cost_one_reading_of_the_history(stored, documents, monkeypatch):
    files = [
        {"key": "file", "value": {"path": f"part-{n}", "content": "QQ==", "encoding": "base64"}}
        for n in range(50)
    ]
    assert commit(stored, *files).status_code == 200
    read, get = [], documents.get

    def counted(kind, namespace, name):
        read.append(kind)
        return get(kind, namespace, name)

    monkeypatch.setattr(documents, "get", counted)
    found = stored.get(f"{API}/tree/main", params={"expand": "true"}).json()
    assert len(found) == 52 and {item["lastCommit"]["title"] for item in found} > {"s"}
    assert read == ["dataset_repo", "commit", "commit_files"]  # the history comes at once


def test_bad_payloads_are_answered_in_the_hub_s_shape(client):
    answer = client.post("/v1/hf/api/repos/create", json={"type": "dataset"})
    assert answer.status_code == 400 and "name" in answer.json()["error"]
    answer = client.post("/v1/hf/api/repos/create", json={"name": "../x", "organization": "ns"})
    assert answer.status_code == 400
    assert client.get("/v1/hf/api/spaces").status_code == 404
    json_body = {"content": "[1]", "headers": {"content-type": "application/json"}}
    answer = client.post(f"{API}/paths-info/main", **json_body)
    assert answer.status_code == 400 and "must be a JSON object" in answer.json()["error"]


def test_a_list_takes_several_words_and_no_negative_limit(client):
    url = "/v1/hf/api/datasets"
    for query, count in (("search=ns/&search=D", 1), ("search=d&search=other", 0), ("limit=0", 0)):
        assert len(client.get(f"{url}?{query}").json()) == count
    answer = client.get(f"{url}?limit=-1")
    assert answer.status_code == 400 and "limit" in answer.json()["error"]


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, ""),
        (JSON, ""),
        (JSON, "{}"),
        (JSON, '{"paths": null}'),
        (JSON, '{"paths": [1]}'),
        ("text/plain", "paths=f"),
        ("multipart/form-data; boundary=b", "--c\r\nbroken"),
        ("multipart/form-data", "paths"),
    ],
)
def test_paths_that_cannot_be_read_are_refused_and_not_missing(stored, content_type, body):
    headers = {"content-type": content_type}
    answer = stored.post(f"{API}/paths-info/main", content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]
    assert stored.post(f"{API}/paths-info/main", data={"paths": "f"}).json()[0]["path"] == "f"


def test_a_namespace_takes_a_form_or_json(client):
    url = "/v1/datastore/namespaces"
    answer = client.post(url, data={"namespace": "a"})
    assert answer.status_code == 201
    assert answer.json() == {
        "namespace": "a",
        "created_at": "2025-06-20T03:58:16Z",
        "updated_at": "2025-06-20T03:58:16Z",
    }
    assert client.post(url + "/", json={"namespace": "b"}).status_code == 201
    assert client.post(url, data={"namespace": "a"}).status_code == 409
    assert client.post(url, data={}).status_code == 422
    assert client.post(url, files={"namespace": ("a.txt", b"abc")}).status_code == 422
    deep = {"content": "[" * 200_000, "headers": {"content-type": "application/json"}}
    assert client.post(url, **deep).status_code == 422
    assert client.get(f"{url}/a").status_code == 200
    assert client.get(f"{url}/no").status_code == 404
    assert {item["namespace"] for item in client.get(url + "/").json()["data"]} == {"a", "b", "ns"}


def test_a_namespace_with_repositories_is_deleted_only_by_force(stored):
    url = "/v1/datastore/namespaces/ns"
    assert stored.delete(url).status_code == 409
    assert stored.delete(url, params={"force": "true"}).status_code == 200
    assert stored.get(API).status_code == 404 and stored.get(url).status_code == 404


def test_everything_is_there_after_a_restart(stored, documents, settings):
    again = DataStoreService(documents, settings.home / "blobs")
    again.start()
    _, entry = again.entry(again.repo("dataset", "ns/d"), "main", "f")
    assert again.blobs.path(entry["sha256"]).read_bytes() == b"0123456789"


def test_a_path_with_signs_that_no_header_carries_is_refused_in_the_hub_s_shape(client):
    answer = client.put("/v1/hf/lfs/a%0b%00b", content=b"x")
    assert answer.status_code == 422 and "error" in answer.json()
    assert answer.headers["x-error-message"].isprintable()


@pytest.mark.parametrize(
    ("page", "size", "names", "pages"),
    [
        (1, 2, ["a", "b"], 3),
        (3, 2, ["ns"], 3),
        (4, 2, [], 3),
        (None, None, ["a", "b", "c", "d", "ns"], 1),
    ],
)
def test_namespaces_are_listed_in_pages(client, page, size, names, pages):
    url = "/v1/datastore/namespaces"
    for name in "abcd":
        client.post(url, json={"namespace": name})
    asked = {"sort": "name", "page": page, "page_size": size}
    listed = client.get(url, params={key: asked[key] for key in asked if asked[key]}).json()
    assert [item["namespace"] for item in listed["data"]] == names
    assert listed["namespaces"] == listed["data"]
    assert listed["pagination"] == {
        "page": page or 1,
        "page_size": size or 10,
        "current_page_size": len(names),
        "total_pages": pages,
        "total_results": 5,
    }


@pytest.mark.parametrize("name", ["a..b", "a.git", "a/b", "@a"])
def test_a_namespace_in_which_no_repository_could_be_is_refused(client, name):
    assert client.post("/v1/datastore/namespaces", json={"namespace": name}).status_code == 422
