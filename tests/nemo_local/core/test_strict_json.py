"""JSON bodies that no answer could repeat."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nemo_local.core.client import UpstreamError
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.middleware import StrictJson
from nemo_local.core.strict_json import unrepeatable


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": [NaN]}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"1" * 310 + b".5}", "11...11111111.5 is too large"),
        (b'{"a": ' + b"1" * 250 + b"e99}", "111e99 is too large"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\uDFFF": 1}', "surrogate"),
        (b"[" * 101, "100 levels"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ('{"a": "\u2222"}'.encode("utf-16"), "not in UTF-16"),
    ],
)
def test_what_no_json_could_repeat_is_named(body: bytes, words: str) -> None:
    assert words in unrepeatable(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"a": "NaN, Infinity and 1e999", "b": "\U0001f600", "c": 1e100}).encode(),
        b'{"a": "\\\\ud800"}',
        b'{"a": "NaN',
        b"[" * 100 + b"]" * 100,
        b"[" + b"[]," * 200 + b"[]]",
        b'{"a": "' + b'\\"[[{' * 100 + b'"}',
        b'\xef\xbb\xbf{"a": 1}',
        b"",
    ],
    ids=[
        *("fine", "an escaped backslash", "unfinished", "deep", "wide", "brackets in a text"),
        *("a byte order mark", "empty"),
    ],
)
def test_what_is_fine_or_no_json_at_all_passes(body: bytes) -> None:
    assert unrepeatable(body) == ""


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/things")
    def post(body: dict[str, float]) -> dict[str, float]:
        return body

    app.add_middleware(StrictJson)
    return TestClient(app, raise_server_exceptions=False)


def test_a_nan_in_a_body_is_a_422_and_no_crash(client: TestClient) -> None:
    json_body = {"content-type": "application/json; charset=utf-8"}
    refused = client.post("/things", content=b'{"a": NaN}', headers=json_body)
    assert refused.status_code == 422 and "NaN" in refused.json()["detail"][0]["msg"]
    taken = client.post("/things", content=b'{"a": 1e100}', headers=json_body)
    assert (taken.status_code, taken.json()) == (200, {"a": 1e100})
    assert client.post("/things", content=b"{", headers=json_body).status_code == 422


def test_an_entity_that_is_nested_too_deep_is_refused_and_breaks_no_listing(control_plane) -> None:
    def nested(depth: int) -> dict[str, object]:
        return {"a": nested(depth - 1)} if depth else {}

    platform = control_plane.client()
    body = {"name": "d", "files_url": "hf://datasets/a/b", "custom_fields": nested(98)}
    platform.post("/v1/datasets", json=body)
    with pytest.raises(UpstreamError, match="more than 100 levels") as refused:
        platform.post("/v1/datasets", json={**body, "name": "e", "custom_fields": nested(275)})
    assert refused.value.status == 422
    (stored,) = platform.get("/v1/datasets")["data"]
    assert stored["custom_fields"] == body["custom_fields"]
