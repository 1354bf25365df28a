"""Who may ask, and what the log says of it."""

import logging

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from nemo_local.core.middleware import LocalOnly, RequestLog


@pytest.fixture
def client():
    app = FastAPI()

    @app.post("/things")
    @app.get("/things")
    def things() -> str:
        return "done"

    @app.get("/v1/health/ready")
    def not_ready() -> None:
        raise HTTPException(503)

    app.add_middleware(LocalOnly)
    app.add_middleware(RequestLog)
    return TestClient(app, headers={"host": "127.0.0.1:8080"})


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8080", "localhost:8080", "[::1]:8080", "192.168.1.4", "box", "nim.test"),
        *("BOX.local:80", "host.docker.internal", "nemo.ns.svc.cluster.local", "a.localhost"),
        "localhost.",
    ],
)
def test_names_and_addresses_of_this_machine_are_answered(client, host):
    headers = {"host": host, "origin": f"http://{host}"}
    assert client.post("/things", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("host", "rebind.evil.example:8080"),
        ("host", "localhost.evil.example"),
        ("host", "8.8.8.8"),
        ("host", "evil.example."),
        ("host", "[::1"),
        ("origin", "https://evil.example"),
        ("origin", "http://8.8.8.8"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ],
)
def test_a_web_page_of_somebody_else_is_refused(client, header, value):
    answer = client.post("/things", headers={header: value})
    assert answer.status_code == 403
    detail = answer.json()["detail"]
    assert header in detail.lower() and "NEMO_LOCAL_TOKEN" in detail
    assert answer.headers["x-error-message"] == detail


def test_a_notebook_server_on_this_machine_and_a_link_are_let_through(client):
    cross = {"sec-fetch-site": "cross-site"}
    jupyter = {**cross, "origin": "http://localhost:8888", "sec-fetch-mode": "cors"}
    assert client.post("/things", headers=jupyter).status_code == 200
    link = {**cross, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/things", headers=link).status_code == 200
    frame = {**link, "sec-fetch-dest": "iframe"}
    assert client.get("/things", headers=frame).status_code == 403


def test_a_path_with_a_line_break_forges_no_line_in_the_log(client, caplog):
    with caplog.at_level(logging.INFO, "nemo_local"):
        client.get("/nothing%0aINFO forged/a@b+c")
    (record,) = caplog.records
    assert "GET /nothing%0AINFO%20forged/a@b+c 404" in record.getMessage()


def test_waiting_for_health_does_not_fill_the_log(client, caplog):
    with caplog.at_level(logging.INFO, "nemo_local"):
        assert client.get("/v1/health/ready").status_code == 503
        client.get("/nothing")
    (record,) = caplog.records
    assert "GET /nothing 404" in record.getMessage()
