"""The HTTP client between services."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from nemo_local.core.client import AsyncClient, Client, Unreachable, UpstreamError
from nemo_local.core.error_bodies import install_error_handlers
from tests.scripted_model import serving


@pytest.fixture
def echo():
    """A server that repeats the authorization it was sent, and crashes where it is asked to."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    def heard(request: Request) -> str | None:
        return request.headers.get("authorization")

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the secret is 1234")

    @app.get("/circle")
    def circle() -> RedirectResponse:
        return RedirectResponse("/circle")

    with serving(app) as url:
        yield url


def test_a_circle_of_redirects_is_no_answer(echo):
    client = Client(echo)
    with pytest.raises(Unreachable, match="redirects"):
        client.get("/circle")
    with pytest.raises(Unreachable, match="redirects"), client.stream("GET", "/circle"):
        pass
    client.close()


def test_a_refusal_carries_status_and_reason(control_plane):
    client = control_plane.client()
    with pytest.raises(UpstreamError, match="answered 404: dataset 'a/b' not found") as refused:
        client.get("/v1/datasets/a/b")
    assert refused.value.status == 404
    assert refused.value.body() == {"detail": "dataset 'a/b' not found"}


def test_every_verb_returns_decoded_json(control_plane):
    client = control_plane.client()
    body = {"name": "d", "files_url": "hf://datasets/a/b"}
    assert client.post("/v1/datasets", json=body)["name"] == "d"
    path = "/v1/datasets/default/d"
    assert client.patch(path, json={"description": "new"})["description"] == "new"
    assert client.get("/v1/datasets", params={"filter[namespace]": "default"})["data"]
    assert client.delete(path)["message"] == "Resource deleted successfully."


def test_nobody_there_is_said_with_the_address(settings):
    client = Client(settings.platform_url)
    with pytest.raises(Unreachable, match=f"{settings.platform_url}/x does not answer"):
        client.get("/x")
    with pytest.raises(Unreachable), client.stream("GET", "/x"):
        pass
    client.close()


def test_a_key_with_a_line_break_is_sent_without_it(echo):
    client = Client(echo, "sk-secret\r\n")
    assert client.get("/") == "Bearer sk-secret"
    client.close()


@pytest.mark.parametrize("key", ["sk-ключ", "sk\nsecret", "sk\x00"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(ValueError, match="no HTTP header can carry") as refused:
        Client("http://127.0.0.1:1", key)
    assert "sk" not in str(refused.value)


def test_a_header_that_cannot_be_sent_is_not_quoted(echo):
    client = Client(echo)
    with pytest.raises(Unreachable, match="cannot be sent as HTTP") as failed:
        client.get("/", headers={"x-key": "secret\n"})
    assert "secret" not in str(failed.value)
    client.close()


def test_the_request_after_a_crash_is_answered(echo):
    with httpx.Client(base_url=echo) as client:
        for _ in range(20):
            crash = client.get("/crash")
            assert (crash.status_code, crash.headers["connection"]) == (500, "close")
            assert client.get("/", headers={"authorization": "a"}).json() == "a"


def test_the_async_client_behaves_alike(control_plane, settings):
    async def talk() -> None:
        client = AsyncClient(control_plane.url)
        found = await asyncio.gather(*(client.get("/v1/namespaces") for _ in range(8)))
        assert all(page["data"][0]["id"] == "default" for page in found)
        with pytest.raises(UpstreamError, match="422"):
            await client.post("/v1/namespaces", json={})
        with pytest.raises(UpstreamError, match="404"):
            async with client.stream("GET", "/v1/datasets/a/b"):
                pass
        await client.close()
        nobody = AsyncClient(settings.nim_url)
        with pytest.raises(Unreachable):
            await nobody.get("/x")
        await nobody.close()

    asyncio.run(talk())
