"""HTTP conventions."""

import sqlite3
from contextlib import closing
from typing import Annotated

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from typing_extensions import TypedDict

from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.errors import Conflict, PlatformError
from nemo_local.core.middleware import BothSlashes, TokenCheck, signature
from nemo_local.core.query import Page
from nemo_local.core.web import NULLS, json_body, list_query, page_body, without_nulls


class Thing(BaseModel):
    """What the lists of these tests show."""

    text: str


def query_of(text: str):
    scope = {"type": "http", "query_string": text.encode(), "headers": []}
    return list_query(Request(scope), Thing, ("namespace", "base_model", "created_at"))


def test_a_query_in_brackets_is_nested():
    query = query_of(
        "filter%5Bnamespace%5D=ns&filter[base_model][name]=x&search[name]=a&search[name]=b"
        "&sort=-created_at&page=2&page_size=5"
    )
    assert query.filter == {"namespace": "ns", "base_model": {"name": "x"}}
    assert query.search == {"name": ["a", "b"]}
    assert (query.sort, query.page, query.page_size) == ("-created_at", 2, 5)


def test_unknown_filters_are_ignored():
    assert query_of("filter[a]=1&filter[namespace]=ns").filter == {"namespace": "ns"}


def test_an_unknown_search_is_ignored():
    text = "search[bogus]=x&search[text][a]=b&search[id]=c"
    assert query_of(text).search == {"text": {"a": "b"}, "id": "c"}


@pytest.mark.parametrize(
    "text", ["page=0", "page=x", "page=-1", "page_size=1001", "page_size=99999999999999", "sort=no"]
)
def test_a_bad_number_or_sort_is_refused_with_its_name(text):
    with pytest.raises(PlatformError) as refused:
        query_of(text)
    assert refused.value.status == 422
    assert refused.value.detail[0]["loc"] == ["query", text.split("=")[0]]


def test_a_page_counts_its_pages():
    body = page_body(Page([{"id": "x"}], total=11), query_of("page=2&filter[namespace]=b"))
    assert body["pagination"] == {
        "page": 2,
        "page_size": 10,
        "current_page_size": 1,
        "total_pages": 2,
        "total_results": 11,
    }
    assert body["filter"] == {"namespace": "b"} and "search" not in body


def test_nulls_stay_where_they_are_a_value():
    rows = [{"a": None}]
    assert without_nulls({"rows": rows, "b": {"rows": rows, "c": None}}, ("rows",)) == {
        "rows": rows,
        "b": {"rows": rows},
    }


def test_nulls_are_left_out_at_any_depth():
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}]}) == {"b": [{"d": 0}]}


class Option(TypedDict, total=False):
    num_nodes: int


class Config(TypedDict, total=False):
    options: list[Option]


@pytest.fixture
def client(tmp_path):
    app = FastAPI(redirect_slashes=False)
    install_error_handlers(app)

    @app.post("/things")
    def post(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.post("/raw")
    async def raw(request: Request) -> dict[str, object]:
        return await json_body(request)

    @app.post("/configs")
    def configure(body: Annotated[Config, NULLS]) -> dict[str, object]:
        return dict(body)

    @app.get("/taken")
    def taken() -> None:
        raise Conflict("thing 'a' already exists")

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the secret is 1234")

    @app.post("/left")
    async def read() -> None:
        raise ClientDisconnect

    @app.get("/health")
    def health() -> str:
        return "healthy"

    @app.get("/files/{path:path}")
    def file(path: str) -> str:
        return path

    @app.get("/full/file")
    def fill_file() -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    @app.get("/full/database")
    def fill_database() -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE t (a)")

    @app.get("/locked")
    def write_to_locked_database() -> None:
        with closing(sqlite3.connect(tmp_path / "db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            with closing(sqlite3.connect(tmp_path / "db", timeout=0)) as database:
                database.execute("CREATE TABLE t (a)")

    app.add_middleware(TokenCheck, token="secret")
    app.add_middleware(BothSlashes)
    headers = {"authorization": "Bearer secret"}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as test_client:
        yield test_client


def test_a_trailing_slash_is_accepted_without_a_redirect(client):
    answer = client.post("/things/", json={"a": 1}, follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"a": 1})


def test_a_signed_link_is_good_for_one_method_and_path(client):
    signed = f"?signature={signature('Bearer secret', 'GET', '/taken')}"
    for method, url, status in (
        ("GET", "/taken" + signed, 409),
        ("POST", "/taken" + signed, 401),
        ("GET", "/crash" + signed, 401),
        ("GET", "/taken?signature=", 401),
    ):
        request = client.build_request(method, url)
        request.headers.pop("authorization")
        assert client.send(request).status_code == status


def test_a_conflict_asks_not_to_be_retried(client):
    answer = client.get("/taken")
    assert answer.status_code == 409 and answer.headers["x-should-retry"] == "false"
    assert answer.json() == {"detail": "thing 'a' already exists"}


def test_a_wrong_field_is_named_and_its_secrets_are_masked(client):
    answer = client.post("/things", json={"api_key": "sk-1"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "api_key"]


def test_a_null_inside_a_list_is_no_wrong_field(client):
    answer = client.post("/configs", json={"options": [{"num_nodes": None}, {"num_nodes": 2}]})
    assert (answer.status_code, answer.json()) == (200, {"options": [{}, {"num_nodes": 2}]})


def test_a_crash_says_nothing_of_the_inside(client):
    answer = client.get("/crash")
    assert answer.status_code == 500 and "1234" not in answer.text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/full/file", 507, "disk of the platform's home is full"),
        ("/full/database", 507, "disk of the platform's home is full"),
        ("/locked", 503, "another program has locked the platform's database"),
    ],
)
def test_a_full_disk_or_a_locked_database_is_named(client, path, status, words):
    answer = client.get(path)
    assert answer.status_code == status and words in answer.text
    assert answer.headers["x-error-message"] == answer.json()["detail"]
    assert answer.headers["x-should-retry"] == "false"


def test_a_client_that_leaves_amid_its_body_is_no_crash(client, caplog):
    assert client.post("/left").status_code == 499
    assert not caplog.records


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_case_of_the_scheme_before_a_token_does_not_count(client, scheme):
    headers = {"authorization": f"{scheme} secret"}
    assert client.get("/files/a", headers=headers).status_code == 200
    signed = f"?signature={signature(f'{scheme} secret', 'GET', '/files/a')}"
    assert client.get("/files/a" + signed, headers={"authorization": ""}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_health_needs_no_token_with_or_without_a_slash(client, path):
    assert client.get(path, headers={"authorization": ""}).status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer no", "bearer", "Basic secret", "secret"])
def test_without_the_token_nothing_is_answered(client, header):
    client.headers.pop("authorization")
    headers = {"authorization": header} if header else {}
    assert client.get("/taken", headers=headers).status_code == 401


def test_a_body_is_read_as_a_json_object_whatever_its_content_type(client):
    answer = client.post(
        "/raw", content=b'{"a": "\xc3\xa9"}', headers={"content-type": "text/plain"}
    )
    assert (answer.status_code, answer.json()) == (200, {"a": "é"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[1]", ""),
        (b"", "not valid JSON"),
        (b'{"a": ', "not valid JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a":' * 101, "100 levels"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON"),
    ],
    ids=["a list", "empty", "unfinished", "NaN", "deep", "not UTF-8", "a number without end"],
)
def test_a_body_that_is_no_json_object_is_refused_with_what_was_seen(client, body, words):
    answer = client.post("/raw", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("the body must be a JSON object")
    assert words in answer.json()["detail"]
