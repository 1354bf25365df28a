"""The control plane as a whole: health, the token, inference passed on, what survives a kill."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from dataclasses import replace

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from huggingface_hub.errors import HfHubHTTPError

from nemo_local.app import create_app
from nemo_local.core.client import AsyncClient, Client, UpstreamError
from nemo_local.processes import wait_until
from nemo_local.settings import Settings
from tests.conftest import running_control_plane
from tests.running_nim import running_nim
from tests.scripted_model import serving

QUESTION = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def test_every_health_path_answers(control_plane):
    client = control_plane.client()
    for path in ("/health", "/v1/health", "/v1/health/ready", "/v1/health/live"):
        assert client.get(path)["status"] in ("healthy", "ready")
    with pytest.raises(UpstreamError) as missing:
        client.get("/v1/nothing")
    assert missing.value.status == 404 and missing.value.detail == "Not Found"


def test_a_hub_url_without_a_path_is_not_found_and_does_not_redirect(control_plane):
    with pytest.raises(UpstreamError) as missing:
        control_plane.client().get("/v1/hf/datasets/ns/d/resolve/main/")
    assert missing.value.status == 404


def test_a_client_that_leaves_amid_its_request_is_no_crash(control_plane, caplog):
    kinds = {"/v1/models": "application/json", "/v1/completions": "text/plain"}
    with caplog.at_level(logging.INFO, "nemo_local"):
        for path, kind in kinds.items():
            with socket.create_connection(("127.0.0.1", control_plane.settings.port)) as leaving:
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
                leaving.sendall(f"{head}Content-Length: 1000\r\n\r\nbegun".encode())
            wait_until(
                lambda path=path: f"POST {path} 499" in caplog.text, timeout_s=30, what="a line"
            )
    assert "crashed" not in caplog.text and "Traceback" not in caplog.text


def test_inference_that_is_down_is_named(control_plane):
    with pytest.raises(UpstreamError) as down:
        control_plane.client().post("/v1/chat/completions", json=QUESTION)
    assert down.value.status == 503
    assert control_plane.nim_url in str(down.value.detail)


@pytest.mark.parametrize("kind", ["customization", "evaluation"])
def test_a_job_that_comes_before_the_services_started_is_asked_to_come_again(settings, kind):
    never_started = TestClient(create_app(settings))
    answer = never_started.post(f"/v1/{kind}/jobs", json={})
    assert answer.status_code == 503 and "the platform is starting" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"
    assert never_started.get(f"/v1/{kind}/jobs").status_code == 200


def test_a_room_full_of_people_who_start_jobs_at_once_are_all_answered(control_plane):
    job = {
        "config": "meta/llama-3.2-1b-instruct@v1.0.0+80GB",
        "dataset": "default/nowhere",
        "hyperparameters": {"training_type": "sft", "finetuning_type": "lora"},
    }

    async def start_together() -> list[object]:
        client = AsyncClient(control_plane.url, timeout_s=50)
        await asyncio.gather(*(client.get("/health") for _ in range(120)))  # all are connected
        starts = (client.post("/v1/customization/jobs", json=job) for _ in range(120))
        answers = await asyncio.gather(*starts, return_exceptions=True)
        await client.close()
        return answers

    assert {getattr(answer, "status", answer) for answer in asyncio.run(start_together())} == {404}


def test_every_service_checks_the_token(settings):
    with running_control_plane(replace(settings, token="secret")) as running:
        stranger = Client(running.url)
        running.closing.callback(stranger.close)
        paths = ["/v1/namespaces", "/v1/datastore/namespaces", "/v1/hf/api/datasets"]
        paths += ["/v1/customization/jobs", "/v1/evaluation/jobs", "/v1/guardrail/configs"]
        for path in [*paths, "/v1/deployment/configs", "/openapi.json"]:
            with pytest.raises(UpstreamError) as refused:
                stranger.get(path)
            assert refused.value.status == 401, path
            running.client().get(path)
        for path in ("/health/", "/v1/health/", "/v1/health/ready/"):
            stranger.get(path)
        hf = running.hf()
        hf.create_repo("ns/d", repo_type="dataset")
        hf.token = "other"
        with pytest.raises(HfHubHTTPError, match="needs a token"):
            hf.list_repo_files("ns/d", repo_type="dataset")


CREATED = [
    ("/v1/projects", {"name": "p", "namespace": "ns"}, "/v1/projects/ns/p"),
    ("/v1/hf/api/repos/create", {"name": "m", "organization": "ns"}, "/v1/hf/api/models/ns/m"),
    ("/v1/datastore/namespaces", {"namespace": "ns"}, "/v1/datastore/namespaces/ns"),
]


@pytest.mark.parametrize(("path", "body", "made"), CREATED, ids=[one[0] for one in CREATED])
def test_json_needs_no_content_type_and_a_page_of_somebody_else_gains_nothing_by_it(
    control_plane, path, body, made
):
    client, untyped = control_plane.client(), json.dumps(body).encode()
    # A browser sends these without asking the platform first.
    simple = ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"})
    for origin in ("https://evil.example", "null"):
        for headers in simple:
            with pytest.raises(UpstreamError) as refused:
                client.post(path, content=untyped, headers={**headers, "origin": origin})
            assert refused.value.status == 403
    assert client.find(made) is None
    with pytest.raises(UpstreamError) as refused:
        client.post(path)
    assert refused.value.status in (400, 422) and "Field required" in str(refused.value)
    client.post(path, content=untyped, headers={"content-type": ""})
    assert client.find(made)


def test_a_body_of_another_type_is_told_what_to_send_and_its_secrets_stay_unsaid(control_plane):
    body = {"name": "m", "custom_fields": {"token": "sk-SECRET"}}
    with pytest.raises(UpstreamError, match="Content-Type: application/json") as refused:
        form = {"content-type": "application/x-www-form-urlencoded"}  # as `curl -d` sends it
        control_plane.client().post("/v1/models", content=json.dumps(body), headers=form)
    assert refused.value.status == 422 and "SECRET" not in str(refused.value)


@pytest.mark.parametrize("part", ["control plane", "inference"])
def test_both_parts_refuse_a_public_name_until_there_is_a_token(settings, part):
    run = running_nim if part == "inference" else running_control_plane
    url = settings.nim_url if part == "inference" else settings.platform_url
    for token, status in ((None, 403), ("secret", 200)):
        stranger = Client(url, token)
        with run(replace(settings, token=token)):
            try:
                answered = stranger.raw("GET", "/openapi.json", headers={"host": "evil.example"})
                seen = answered.status_code
            except UpstreamError as refused:
                seen = refused.status
        stranger.close()
        assert seen == status


class Elsewhere:
    """Inference elsewhere, which notes what it was asked with."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.asked, self.left = threading.Event(), threading.Event()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.chat)

    async def chat(self, request: Request) -> JSONResponse:
        self.keys.append(request.headers.get("authorization"))
        body = await request.json()
        await asyncio.sleep(body.get("takes_s", 0))
        if body.get("slow"):
            self.asked.set()
            while not await request.is_disconnected():
                await asyncio.sleep(0.02)
            self.left.set()
        advice = {"retry-after": "7", "x-should-retry": "false"}
        return JSONResponse({"error": "busy"}, 429, advice)


def test_a_client_that_hangs_up_ends_its_generation(settings):
    there = Elsewhere()
    with serving(there.app) as url, running_control_plane(elsewhere(settings, url)) as running:

        async def hang_up() -> None:
            client = AsyncClient(running.url)
            asking = asyncio.create_task(client.post("/v1/chat/completions", json={"slow": 1}))
            assert await asyncio.to_thread(there.asked.wait, 30)
            asking.cancel()
            assert await asyncio.to_thread(there.left.wait, 30)
            await client.close()

        asyncio.run(hang_up())


def test_a_busy_inference_is_asked_again_when_it_says(settings):
    there = Elsewhere()
    with serving(there.app) as url, running_control_plane(elsewhere(settings, url)) as running:
        with pytest.raises(UpstreamError) as busy:
            running.client().post("/v1/chat/completions", json=QUESTION)
    assert busy.value.status == 429
    assert busy.value.headers == {"retry-after": "7", "x-should-retry": "false"}


@pytest.mark.parametrize(("limit_s", "status"), [(1, 503), (0, 429)])
def test_the_gateway_waits_as_long_as_inference_may_take(settings, monkeypatch, limit_s, status):
    monkeypatch.setattr("nemo_local.app.LONGER_THAN_NIM_S", 0.0)
    there = Elsewhere()
    with serving(there.app) as url:
        limited = replace(elsewhere(settings, url), request_timeout_s=limit_s)
        with running_control_plane(limited) as running, pytest.raises(UpstreamError) as ended:
            running.client().post("/v1/chat/completions", json={"takes_s": 1.5})
    assert ended.value.status == status


@pytest.mark.parametrize(("key", "sent"), [(None, None), ("theirs", "Bearer theirs")])
def test_the_token_of_the_platform_stays_here_when_inference_is_elsewhere(settings, key, sent):
    there = Elsewhere()
    with serving(there.app) as url:
        guarded = replace(elsewhere(settings, url), token="ours", nim_key=key)
        with running_control_plane(guarded) as running, pytest.raises(UpstreamError):
            running.client().post("/v1/chat/completions", json=QUESTION)
    assert there.keys == [sent]


def elsewhere(settings: Settings, url: str) -> Settings:
    return replace(settings, remote_nim_url=url)


@pytest.mark.contract
def test_the_platform_does_not_close_a_connection_that_its_client_still_keeps(platform):
    kept_by_clients_s = 5.0  # httpx, and so the vendors' clients
    address = ("127.0.0.1", platform.settings.port)
    with socket.create_connection(address, timeout=kept_by_clients_s + 1) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while not connection.recv(1000).endswith(b"}"):
            pass
        with pytest.raises(TimeoutError):
            connection.recv(1)


@pytest.mark.contract
def test_inference_is_passed_on_streams_included(platform):
    client = platform.client()
    body = {**QUESTION, "model": "meta/llama-3.2-1b-instruct"}
    assert client.post("/v1/chat/completions", json=body)["object"] == "chat.completion"
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line]
    assert events[-1] == "data: [DONE]" and len(events) > 2
    with pytest.raises(UpstreamError) as unknown:
        client.post("/v1/chat/completions", json={**QUESTION, "model": "meta/llama"})
    assert unknown.value.status == 404 and "does not exist" in str(unknown.value.response_body)
