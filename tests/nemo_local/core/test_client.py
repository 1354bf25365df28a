"""The HTTP client between services."""

import asyncio

import pytest

from nemo_local.core.client import AsyncClient, Client, Unreachable, UpstreamError


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
