"""What stays on this machine, and what several processes of it may do at once."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from fastapi import FastAPI

from nemo_local.core.client import AsyncClient, Client
from nemo_local.core.documents import Documents
from tests.scripted_model import serving


@pytest.fixture
def proxy(monkeypatch):
    """The environment names a proxy for everything; it answers in place of whoever is asked."""
    app = FastAPI()
    app.get("/who")(lambda: "the proxy")
    with serving(app) as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield


async def asked(url):
    client = AsyncClient(url)
    try:
        return await client.get("/who")
    finally:
        await client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_traffic_does_not_go_through_a_proxy(proxy, host):
    app = FastAPI()
    app.get("/who")(lambda: "the service")
    with serving(app) as url:
        url = url.replace("127.0.0.1", host)
        with closing(Client(url)) as client:
            assert client.get("/who") == "the service"
        assert asyncio.run(asked(url)) == "the service"


def test_the_world_is_reached_through_the_proxy_of_the_environment(proxy):
    with closing(Client("http://nim.example")) as client:
        assert client.get("/who") == "the proxy"
    assert asyncio.run(asked("http://nim.example")) == "the proxy"


@pytest.fixture
def database(tmp_path):
    """A store with one entity, and the path of its file."""
    path = tmp_path / "platform.db"
    documents = Documents(f"sqlite:///{path}")
    documents.create("dataset", "ns", "d", {})
    yield documents, path
    documents.close()


def test_a_reader_is_not_kept_waiting_by_one_who_writes(database):
    documents, path = database
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        # Without a log of its own to write to, one who writes keeps all others out.
        writer.execute("BEGIN EXCLUSIVE")
        assert documents.get("dataset", "ns", "d")["name"] == "d"
        writer.execute("ROLLBACK")


def test_a_writer_waits_longer_than_the_driver_would_for_another_process(database):
    documents, _ = database
    with documents._engine.connect() as connection:
        waits_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    assert 25_000 < waits_ms <= 30_000  # less what it waited for other writers here
