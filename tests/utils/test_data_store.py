"""Uploads to a Data Store whose answers the Hub's client does not expect."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import CommitInfo, HfApi, constants
from huggingface_hub.errors import HfUriError

from utils import data_store
from utils.errors import InvalidFile, NotFound, Unreachable


class AtOneCommit(HfApi):
    """A Hub whose repositories are at the commit 4c1f."""

    def dataset_info(self, repo_id, **options):
        return type("Info", (), {"sha": "4c1f"})


class OneCommit(AtOneCommit):
    """The Hub's client at a Data Store that answers a commit without the commit's URL."""

    def __init__(self):
        super().__init__(endpoint="http://store.example/v1/hf")
        self.committed = []

    def create_commit(self, repo_id, operations, **options):
        self.committed = [operation.path_in_repo for operation in operations]
        return CommitInfo(
            commit_url="", commit_message="", commit_description="", oid="4c1f", _endpoint=None
        )


def test_a_commit_that_is_answered_without_its_url_counts(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    store = OneCommit()
    assert data_store.upload_files(store, "ns/d", {"a.jsonl": tmp_path / "a.jsonl"}) == "4c1f"
    assert store.committed == ["a.jsonl"]


def test_a_repository_behind_a_gateway_with_a_path_counts_as_created():
    """Its URL names the host and path that the store knows, and the Hub's client cannot read it."""

    class Rewritten(HfApi):
        """The Hub's client at such a gateway."""

        def create_repo(self, repo_id, **options):
            raise HfUriError("http://store:3000/v1/hf/datasets/ns/d", "no URL of this endpoint")

    hub = Rewritten(endpoint="https://gateway.example/nemo/v1/hf")
    assert data_store.ensure_dataset_repo(hub, "ns/d") == "hf://datasets/ns/d"


def test_a_data_store_that_is_gone_is_told_with_the_setting_that_the_notebooks_pass():
    with pytest.raises(Unreachable, match="or set DATA_STORE_URL to one that runs"):
        data_store.ensure_namespace("http://127.0.0.1:9", "ns")
    with pytest.raises(Unreachable, match="or set DATA_STORE_URL to one that runs"):
        data_store.list_files(data_store.hub("http://127.0.0.1:9"), "ns/d")


def test_a_file_that_is_not_there_is_named_before_anything_is_sent(tmp_path):
    store = OneCommit()
    with pytest.raises(InvalidFile, match="notebook 1 writes it"):
        data_store.upload_files(store, "ns/d", {"a.jsonl": tmp_path / "a.jsonl"})
    assert store.committed == []


@pytest.fixture
def heard(monkeypatch):
    """The URL of a Hub that has nothing, and the authorizations it was sent, while a token of
    Hugging Face lies around."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_reader")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    sent = []

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self):
            sent.append(self.headers.get("Authorization"))
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format, *args):
            """Tests read the headers, not a log."""

    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("token", [None, "of-the-platform"])
def test_a_data_store_is_sent_its_own_token_and_never_one_of_hugging_face(heard, token):
    url, sent = heard
    with pytest.raises(NotFound):
        data_store.list_files(data_store.hub(url, token), "ns/d")
    with pytest.raises(NotFound):
        data_store.load_rows(f"{url}/v1/hf", "ns/d", token)
    assert set(sent) == {token and f"Bearer {token}"}


def test_rows_are_those_of_the_commit_that_was_found(tmp_path, monkeypatch):
    class Moving(AtOneCommit):
        """A Hub whose `main` moves on between two requests."""

        def snapshot_download(self, repo_id, *, revision=None, **options):
            rows = {"4c1f": '{"id": 1}'}.get(revision, '{"id": 2}')
            (tmp_path / "train.jsonl").write_text(rows)
            return str(tmp_path)

    monkeypatch.setattr(data_store, "HfApi", Moving)
    assert list(data_store.load_rows("http://hub.example", "ns/d")) == [{"id": 1}]


@pytest.mark.parametrize(
    ("row", "first"),
    [
        pytest.param('{"query": "a"}', "row 1", id="no row has one"),
        pytest.param('{"id": 7, "query": "a"}', "7", id="another row has one"),
    ],
)
def test_rows_without_an_id_can_be_found_again_by_their_number(tmp_path, monkeypatch, row, first):
    class Holding(AtOneCommit):
        """A Hub with two rows."""

        def snapshot_download(self, repo_id, **options):
            (tmp_path / "train.jsonl").write_text(f'{row}\n{{"query": "b"}}')
            return str(tmp_path)

    monkeypatch.setattr(data_store, "HfApi", Holding)
    rows = data_store.load_rows("http://hub.example", "ns/d")
    assert list(rows) == [{"query": "a", "id": first}, {"query": "b", "id": "row 2"}]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no training rows that can be read: .* any data files"),
        ({"train.jsonl": ""}, "no training rows that can be read: there are none"),
        ({"test.jsonl": '{"query": 1}'}, "no training rows that can be read: .*train"),
        ({"train.jsonl": '{"query": 1}\n{"query": \n'}, "train.jsonl:2: not JSON"),
        ({"train.jsonl": '{"query": 1}'}, "has the columns query, but not tools: convert"),
        ({"train.jsonl": b'{}\n{"query": "\xe9t\xe9"}'}, "train.jsonl:2: not JSON .*UTF-8"),
        (
            {"train-1.jsonl": '{"query": "a"}', "train-2.jsonl": '{"query": [{"a": 1}]}'},
            "can be read: Couldn't cast array of type list",
        ),
        (
            {"train-1.jsonl": '{"query": "a"}', "train-2.jsonl": '{"query": "b", "source": "x"}'},
            "can be read: Couldn't cast .*source.* column names don't match",
        ),
    ],
    ids=[
        *("no files", "empty file", "no training split", "broken line", "other columns"),
        *("letters of Latin-1", "files of other types", "files of other columns"),
    ],
)
def test_rows_that_are_not_there_are_named_with_the_reason(tmp_path, monkeypatch, files, reason):
    class Holding(AtOneCommit):
        """A Hub with these files."""

        def snapshot_download(self, repo_id, **options):
            for name, text in files.items():
                data = text if isinstance(text, bytes) else text.encode()
                (tmp_path / name).write_bytes(data)
            return str(tmp_path)

    monkeypatch.setattr(data_store, "HfApi", Holding)
    with pytest.raises(InvalidFile, match=reason):
        data_store.load_rows("http://hub.example", "ns/d", columns=("query", "tools"))
