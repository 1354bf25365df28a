"""Secrets stay hidden in every service that stores them."""

from __future__ import annotations

import json

import pytest

from nemo_local.core.client import UpstreamError

pytestmark = pytest.mark.contract

KEY = "nvapi-SECRET"
ENDPOINT = {"url": "http://x/v1/chat/completions", "model_id": "m", "api_key": KEY}
RAILS = {
    "type": "main",
    "engine": "nim",
    "model": "meta/x",
    "parameters": {"base_url": "http://127.0.0.1:9/v1", "api_key": KEY},
}
ENTITIES = [
    pytest.param("/v1/models", {"api_endpoint": ENDPOINT}, "api_endpoint", id="model"),
    pytest.param("/v1/models", {"base_model": {"api_endpoint": ENDPOINT}}, "base_model", id="base"),
    pytest.param("/v1/models", {"custom_fields": {"token": KEY}}, "custom_fields", id="fields"),
    pytest.param(
        "/v1/evaluation/targets",
        {"type": "model", "model": {"api_endpoint": ENDPOINT}},
        "model",
        id="evaluation target",
    ),
    pytest.param("/v1/guardrail/configs", {"data": {"models": [RAILS]}}, "data", id="guardrail"),
]


@pytest.mark.parametrize(("path", "body", "field"), ENTITIES)
def test_a_list_does_not_tell_a_key_that_it_masks(control_plane, path, body, field):
    client = control_plane.client()
    client.post(path, json={"namespace": "ns", "name": "n", **body})

    def found(text):
        query = {"filter[namespace]": "ns", f"search[{field}]": text}
        return client.get(path, params=query)["pagination"]["total_results"]

    assert found("nvapi-S") == 0 and found("***") == 1
    query = {"search[api_endpoint][api_key]": "nvapi-S"}
    assert client.get("/v1/models", params=query)["data"] == []


@pytest.mark.parametrize(("path", "body", "field"), ENTITIES)
def test_a_copy_of_what_was_shown_is_refused_and_the_key_is_named(control_plane, path, body, field):
    client = control_plane.client()
    client.post(path, json={"namespace": "ns", "name": "n", **body})
    shown = client.get(f"{path}/ns/n")
    with pytest.raises(UpstreamError, match=r"\*\*\*\*\*\* stands for a secret") as refused:
        client.post(path, json={**shown, "name": "copy"})
    assert refused.value.status == 422
    assert field in str(refused.value) and KEY not in str(refused.value)


def test_the_secrets_of_a_namespace_are_masked_and_survive_a_round_trip(control_plane, documents):
    client = control_plane.client()
    fields = {"token": KEY, "team": "a"}
    shown = client.post("/v1/namespaces", json={"id": "ns", "custom_fields": fields})
    changed = client.patch("/v1/namespaces/ns", json={**shown, "description": "d"})
    (listed,) = client.get("/v1/namespaces", params={"filter[namespace]": "ns"})["data"]
    for entity in (shown, changed, listed, client.get("/v1/namespaces/ns")):
        assert entity["custom_fields"] == {"token": "******", "team": "a"}
    assert documents.get("namespace", "", "ns")["custom_fields"] == fields


@pytest.mark.parametrize(("path", "body", "field"), ENTITIES)
def test_a_mask_in_a_patch_where_no_key_is_stored_is_refused(control_plane, path, body, field):
    client = control_plane.client()
    client.post(path, json={"namespace": "ns", "name": "n", **body})
    with_mask = client.get(f"{path}/ns/n")[field]
    without = json.loads(json.dumps(body).replace(f'"{KEY}"', "null"))
    client.patch(f"{path}/ns/n", json=without)
    with pytest.raises(UpstreamError, match=r"\*\*\*\*\*\* stands for a secret") as refused:
        client.patch(f"{path}/ns/n", json={field: with_mask})
    assert refused.value.status == 422 and field in str(refused.value)
    assert "******" not in str(client.get(f"{path}/ns/n"))
