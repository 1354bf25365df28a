"""The control plane as a whole: health, the token, inference passed on, what survives a kill."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub.errors import HfHubHTTPError

from nemo_local.core.client import Client, UpstreamError
from tests.conftest import running_control_plane

QUESTION = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def test_every_health_path_answers(control_plane):
    client = control_plane.client()
    for path in ("/health", "/v1/health", "/v1/health/ready", "/v1/health/live"):
        assert client.get(path)["status"] in ("healthy", "ready")
    with pytest.raises(UpstreamError) as missing:
        client.get("/v1/nothing")
    assert missing.value.status == 404 and missing.value.detail == "Not Found"


def test_inference_that_is_down_is_named(control_plane):
    with pytest.raises(UpstreamError) as down:
        control_plane.client().post("/v1/chat/completions", json=QUESTION)
    assert down.value.status == 503
    assert control_plane.nim_url in str(down.value.detail)


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
        hf = running.hf()
        hf.create_repo("ns/d", repo_type="dataset")
        hf.token = "other"
        with pytest.raises(HfHubHTTPError, match="needs a token"):
            hf.list_repo_files("ns/d", repo_type="dataset")


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
