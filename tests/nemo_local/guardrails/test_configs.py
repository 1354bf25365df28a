"""Configurations: defaults, the preloaded three, and what is refused by name."""

from copy import deepcopy
from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from tests.nemo_local.guardrails.conftest import INPUT_FLOW, Guardrails, safety_config

STORE = "file:///app/services/guardrails/config-store/"


def test_a_created_config_shows_every_default(guardrails: Guardrails) -> None:
    created = guardrails.create(safety_config())
    assert (created["namespace"], created["name"]) == ("ns", "toolcalling")
    assert created["id"].startswith("guardrail-") and created["schema_version"] == "1.0"
    data = created["data"]
    assert data["models"][0]["mode"] == "chat" and data["models"][0]["parameters"] == {}
    assert data["models"][0]["reasoning_config"]["start_token"] == "<think>"
    assert data["prompts"][0]["max_length"] == 16000 and data["prompts"][0]["max_tokens"] == 50
    assert data["rails"]["input"] == {"flows": [INPUT_FLOW]}
    assert data["rails"]["output"]["streaming"]["chunk_size"] == 200
    assert data["rails"]["dialog"]["single_call"]["fallback_to_multiple_calls"] is True
    assert data["colang_version"] == "1.0" and data["lowest_temperature"] == 0.001
    assert data["instructions"][0]["type"] == "general"


def test_a_second_config_of_the_same_name_is_a_conflict(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    with pytest.raises(UpstreamError) as caught:
        guardrails.create(safety_config())
    assert (caught.value.status, caught.value.detail) == (
        409,
        "config 'toolcalling' already exists.",
    )


def test_three_configs_are_preloaded_without_data(guardrails: Guardrails) -> None:
    guardrails.service.start()
    guardrails.service.start()
    listed = guardrails.client.get("/v1/guardrail/configs")
    assert [config["name"] for config in listed["data"]] == ["self-check", "abc", "default"]
    for config in listed["data"]:
        assert config["namespace"] == "default" and "data" not in config
        assert config["files_url"] == STORE + config["name"]
        assert config["description"] == f"{config['name']} guardrail config"


def test_a_config_is_read_changed_and_deleted(guardrails: Guardrails) -> None:
    data = safety_config()
    data["models"][0]["parameters"] = {"api_key": "secret"}
    guardrails.create(data)
    path = "/v1/guardrail/configs/ns/toolcalling"
    shown = guardrails.client.get(path)
    assert shown["data"]["models"][0]["parameters"] == {"api_key": "******"}
    changed = guardrails.client.patch(path, json={"description": "two"})
    assert changed["description"] == "two" and changed["data"] == shown["data"]
    replaced = guardrails.client.patch(path, json={"data": {"models": []}})
    assert replaced["data"]["rails"]["input"] == {"flows": []} and not replaced["data"]["prompts"]
    deleted = guardrails.client.delete(path)
    assert deleted["message"] == "Resource deleted successfully."
    with pytest.raises(UpstreamError, match="Guardrail config not found."):
        guardrails.client.get(path)


def test_an_unknown_path_names_itself(guardrails: Guardrails) -> None:
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.get("/v1/guardrail/nothing/here")
    assert caught.value.response_body == {
        "detail": "Not Found",
        "path": "/v1/guardrail/nothing/here",
        "method": "GET",
    }


def edited(path: str, value: Any) -> dict[str, Any]:
    """The safety configuration with one place changed: `edited("models.0.engine", "x")`."""
    data = deepcopy(safety_config())
    at: Any = data
    *parents, last = path.split(".")
    for part in parents:
        at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
    at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("flows", [{"elements": []}], "data.flows is not supported"),
        ("user_messages", {"hi": ["hello"]}, "data.user_messages"),
        ("bot_messages", {"hi": ["hello"]}, "data.bot_messages"),
        ("import_paths", ["/etc"], "data.import_paths"),
        ("config_path", "/tmp", "data.config_path"),
        ("actions_server_url", "http://x", "actions_server_url"),
        ("tracing", {"enabled": True, "adapters": [{"name": "FileSystem"}]}, "data.tracing"),
        ("colang_version", "2.x", "colang_version '2.x'"),
        ("models.0.engine", "huggingface", "engine 'huggingface'"),
        ("models.0.api_key_env_var", "HOME", "api_key_env_var 'HOME'"),
        ("models.0.model", None, "needs the name of its model"),
        ("models.0.type", "other", "needs a model of type 'content_safety'"),
        ("models.0.parameters", {"base_url": "file:///etc/passwd"}, "not an http or https URL"),
        ("prompts.0.output_parser", "eval", "output_parser 'eval'"),
        ("prompts.0.task", "other", "needs a prompt with task 'content_safety_check_input"),
        ("rails.input.flows", ["jailbreak detection model"], "flow not supported"),
        ("rails.input.flows", ["content safety check input"], "needs a model"),
        ("rails.retrieval.flows", ["check facts"], "flow not supported: 'check facts'"),
        ("rails.input", ["x"], "data.rails.input must be a JSON object"),
        ("rails.input.flows", 5, "data.rails.input.flows must be a JSON list"),
        ("rails.output.streaming", "x", "data.rails.output.streaming must be a JSON object"),
        ("models.0.parameters", [], "data.models[0].parameters must be a JSON object"),
        ("tracing", "x", "data.tracing must be a JSON object"),
        ("lowest_temperature", "cold", "lowest_temperature"),
    ],
)
def test_a_config_we_will_not_run_is_refused_by_name(
    guardrails: Guardrails, path: str, value: Any, message: str
) -> None:
    with pytest.raises(UpstreamError) as caught:
        guardrails.create(edited(path, value))
    assert caught.value.status == 422
    assert isinstance(caught.value.detail, str) and message in caught.value.detail


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ user_input", "unexpected end of template"),
        ("{% if %}", "Expected an expression"),
        ("{{ user_input | shout }}", "No filter named 'shout'"),
        ("{{" + "(" * 9000, "recursion"),
    ],
    ids=["open", "empty", "filter", "deep"],
)
@pytest.mark.parametrize("place", ["prompts.0.messages", "prompts.1.content"])
def test_a_broken_prompt_template_is_refused_when_the_config_is_created(
    guardrails: Guardrails, place: str, template: str, message: str
) -> None:
    messages = ["[]", {"type": "user", "content": template}]
    data = edited(place, messages if place.endswith("messages") else template)
    for give in (guardrails.create, lambda data: guardrails.check("hi", config=data)):
        with pytest.raises(UpstreamError) as caught:
            give(data)
        assert caught.value.status == 422
        assert f"{data['prompts'][int(place[8])]['task']!r} is a broken template" in str(
            caught.value.detail
        )
        assert message in str(caught.value.detail)


def test_a_folder_of_the_server_is_refused(guardrails: Guardrails) -> None:
    for body in ({"name": "x", "files_url": "file:///etc"}, {"name": "x"}):
        with pytest.raises(UpstreamError, match="a config needs data"):
            guardrails.client.post("/v1/guardrail/configs", json=body)


def test_a_template_in_a_prompt_cannot_leave_the_sandbox(guardrails: Guardrails) -> None:
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    data = edited("prompts.0.messages", [{"type": "user", "content": template}])
    answer = guardrails.check("hi", config=data)
    assert answer["status"] == "blocked" and not guardrails.model.requests
