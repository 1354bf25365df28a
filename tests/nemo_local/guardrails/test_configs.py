"""Configurations: defaults, the preloaded three, and what is refused by name."""

import json
from copy import deepcopy
from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from tests.nemo_local.guardrails.conftest import GUARD, INPUT_FLOW, Guardrails, safety_config

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


def test_a_null_in_place_of_custom_fields_means_none(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    path = "/v1/guardrail/configs/ns/toolcalling"
    for fields in ({"a": 1}, None):
        changed = guardrails.client.patch(path, json={"custom_fields": fields})
        assert changed["custom_fields"] == (fields or {})


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


CONTENT_SAFETY = "content safety check input"
NO_MODEL = f"write '{CONTENT_SAFETY} $model=<type>'"


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
        ("rails.input.flows", [f"{CONTENT_SAFETY} $extra=1 $model=content_safety"], NO_MODEL),
        ("rails.input.flows", [f"{CONTENT_SAFETY} $model=content_safety $extra=1"], NO_MODEL),
        ("rails.input.flows", [f"{CONTENT_SAFETY} $model=content_safety,"], NO_MODEL),
        ("rails.input.flows", [f"{CONTENT_SAFETY} $model=content=safety"], NO_MODEL),
        ("rails.input.flows", [f"{CONTENT_SAFETY} $model='content_safety"], NO_MODEL),
        ("rails.input.flows", [f"{CONTENT_SAFETY} $model=main"], "the main model is the one that"),
        ("prompts.0.mode", "compact", "and of mode standard, not compact"),
        ("rails.retrieval.flows", ["check facts"], "flow not supported: 'check facts'"),
        ("rails.input", ["x"], "data.rails.input must be a JSON object"),
        ("rails.input.flows", 5, "data.rails.input.flows must be a JSON list"),
        ("rails.output.streaming", "x", "data.rails.output.streaming must be a JSON object"),
        ("models.0.parameters", [], "data.models[0].parameters must be a JSON object"),
        ("tracing", "x", "data.tracing must be a JSON object"),
        ("lowest_temperature", "cold", "lowest_temperature"),
        ("rails.output.apply_to_reasoning_traces", True, "apply_to_reasoning_traces is not"),
        ("rails.output.streaming", {"chunk_size": 0}, "chunk_size must be a whole number"),
        ("rails.output.streaming", {"context_size": -1}, "context_size must be a whole number"),
        ("rails.output.streaming", {"stream_first": "no"}, "stream_first must be true or false"),
        ("rails.input.parallel", "no", "data.rails.input.parallel must be true or false"),
        ("models.0.parameters", {"client": 1}, "data.models[0].parameters.client is not supported"),
        ("models", safety_config()["models"] * 2, "several of type 'content_safety'"),
        ("models.0.parameters", {"default_headers": {"x": "y"}}, "default_headers is not"),
        ("models.0.parameters", {"base_url": "http://bob:pw@host"}, "send it as api_key"),
        *(
            ("models.0.parameters", {key: value}, f"data.models[0].parameters.{key} {message}")
            for key, value, message in (
                ("api_key", {"k": "sk-1"}, "must be a string, not dict"),
                ("api_key", ["sk-1"], "must be a string, not list"),
                ("base_url", 5, "must be a string, not int"),
                ("timeout", "1", "must be a number of seconds, above 0 and at most 3600, not '1'"),
                ("timeout", 0, "must be a number of seconds, above 0 and at most 3600, not 0"),
                (
                    "timeout",
                    3601,
                    "must be a number of seconds, above 0 and at most 3600, not 3601",
                ),
                ("connect_timeout", {}, "must be a number of seconds, above 0 and at most"),
                ("max_retries", -1, "must be a whole number from 0 to 10, not -1"),
                ("max_retries", 11, "must be a whole number from 0 to 10, not 11"),
                ("max_retries", True, "must be a whole number from 0 to 10, not True"),
                ("streaming", True, "is not supported: it is a setting of LangChain's clients"),
                ("name", "guard", "is not supported: it is a setting of LangChain's clients"),
                ("model_kwargs", {"n": 1}, "is not supported: give what is in it as parameters"),
                ("model_name", "guard", "is not supported: the model's own field `model` names"),
                ("nim_base_url", "http://x/v1", "is not supported; call it base_url"),
                ("nvidia_api_key", "sk-1", "is not supported; call it api_key"),
            )
        ),
    ],
)
def test_a_config_we_will_not_run_is_refused_by_name(
    guardrails: Guardrails, path: str, value: Any, message: str
) -> None:
    with pytest.raises(UpstreamError) as caught:
        guardrails.create(edited(path, value))
    assert caught.value.status == 422
    assert isinstance(caught.value.detail, str) and message in caught.value.detail
    assert "sk-1" not in caught.value.detail


@pytest.mark.parametrize("quote", ["", "'", '"'], ids=["bare", "single", "double"])
def test_a_flow_may_quote_the_type_of_its_model(guardrails: Guardrails, quote: str) -> None:
    flow = f" {CONTENT_SAFETY} $model={quote}content_safety{quote} "
    answer = guardrails.check("hi", config=edited("rails.input.flows", [flow]))
    assert answer["rails_status"] == {flow: {"status": "success"}}


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


def test_a_config_that_a_patch_leaves_without_rails_lets_everything_pass(
    guardrails: Guardrails,
) -> None:
    guardrails.create(safety_config())
    changed = guardrails.client.patch("/v1/guardrail/configs/ns/toolcalling", json={"data": {}})
    assert changed["data"]["models"] == []
    assert guardrails.check("a bomb")["rails_status"] == {}


@pytest.mark.parametrize("body", [{"data": None}, {"data": []}, {"files_url": "x"}])
def test_a_config_that_a_patch_would_empty_stays_what_it_was(
    guardrails: Guardrails, body: dict[str, Any]
) -> None:
    guardrails.create(safety_config())
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.patch("/v1/guardrail/configs/ns/toolcalling", json=body)
    assert caught.value.status == 422
    assert guardrails.check("a bomb")["status"] == "blocked"


def test_a_config_that_a_real_cluster_shows_can_be_created_here(guardrails: Guardrails) -> None:
    shown = guardrails.create(edited("models.0.api_key_env_var", "NIM_ENDPOINT_API_KEY"))["data"]
    assert shown["models"][0]["api_key_env_var"] == "NIM_ENDPOINT_API_KEY"
    assert guardrails.check("a bomb")["status"] == "blocked"
    assert guardrails.check("hi")["status"] == "success"


def test_the_key_of_another_server_must_be_in_the_environment(
    guardrails: Guardrails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVIDIA_API_KEY", raising=False)
    model = {"type": "content_safety", "engine": "nim", "model": GUARD}
    nvidia = "https://integrate.api.nvidia.com/v1"
    away = {"api_key_env_var": "NVIDIA_API_KEY", "parameters": {"base_url": nvidia}}
    with pytest.raises(UpstreamError, match=f"NVIDIA_API_KEY, for the key of {nvidia}, is not set"):
        guardrails.create(safety_config(models=[{**model, **away}]))


def test_an_inline_config_cannot_fetch_a_key_of_the_environment(
    guardrails: Guardrails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIM_ENDPOINT_API_KEY", "nvapi-secret")
    away = {"base_url": guardrails.model.url.replace("127.0.0.1", "localhost") + "/mine/v1"}
    main = {"type": "main", "engine": "nim", "model": "m", "parameters": away}
    data = safety_config(models=[*safety_config()["models"], main])
    data["models"][-1]["api_key_env_var"] = "NIM_ENDPOINT_API_KEY"
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "guardrails": {"config": data},
    }
    with pytest.raises(UpstreamError, match="give the key of that server as parameters.api_key"):
        guardrails.client.post("/v1/guardrail/chat/completions", json=body)
    with pytest.raises(UpstreamError, match="NIM_ENDPOINT_API_KEY is not for http://localhost"):
        guardrails.create(data)
    assert not guardrails.model.requests


@pytest.mark.parametrize(
    "url",
    [
        "http://x:abc/v1",
        "http://127.0.0.1:99999/v1",
        "http://\0/v1",
        "http://xn--a/v1",
        "http://../v1",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_stored(
    guardrails: Guardrails, url: str
) -> None:
    with pytest.raises(UpstreamError, match="base_url: .* is not a usable URL") as caught:
        guardrails.create(edited("models.0.parameters", {"base_url": url}))
    assert caught.value.status == 422
    assert guardrails.client.get("/v1/guardrail/configs")["data"] == []


@pytest.mark.parametrize("key", ["sk-ключ", "sk-a\nb"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(guardrails: Guardrails, key: str) -> None:
    away = {"base_url": "http://guard.example", "api_key": key}
    with pytest.raises(UpstreamError, match="no HTTP header can carry") as caught:
        guardrails.create(edited("models.0.parameters", away))
    assert caught.value.status == 422 and "sk-" not in str(caught.value.response_body)


def test_a_key_with_a_line_break_is_sent_without_it(guardrails: Guardrails) -> None:
    elsewhere = guardrails.model.url.replace("127.0.0.1", "localhost")
    away = {"base_url": f"{elsewhere}/v1", "api_key": "sk-secret\n"}
    guardrails.create(edited("models.0.parameters", away))
    assert guardrails.check("hi")["status"] == "success"
    assert guardrails.model.headers[-1]["authorization"] == "Bearer sk-secret"


def test_what_the_library_refuses_is_told_in_a_sentence(guardrails: Guardrails) -> None:
    data = edited("models.0.parameters", {"api_key": "sk-secret"})
    data["models"][0]["model"] = ""
    with pytest.raises(UpstreamError) as caught:
        guardrails.create(data)
    detail = str(caught.value.detail)
    assert detail.startswith(
        "data is not a valid rails configuration: models.0: Value error, Model"
    )
    assert "\n" not in detail and "sk-secret" not in detail and "pydantic" not in detail


def test_a_config_has_either_data_or_a_files_url(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    path = "/v1/guardrail/configs/ns/toolcalling"
    changed = guardrails.client.patch(path, json={"files_url": f"{STORE}abc"})
    assert "data" not in changed and changed["files_url"] == f"{STORE}abc"
    guardrails.model.respond = lambda body: "No"
    assert list(guardrails.check("hi")["rails_status"]) == ["self check input"]
    changed = guardrails.client.patch(path, json={"data": safety_config()})
    assert "files_url" not in changed and list(guardrails.check("hi")["rails_status"]) == [
        INPUT_FLOW
    ]


def test_a_key_stays_with_its_model_when_another_one_goes(guardrails: Guardrails) -> None:
    def model(kind: str) -> dict[str, Any]:
        elsewhere = guardrails.model.url.replace("127.0.0.1", "localhost")
        parameters = {"api_key": f"key of {kind}", "base_url": f"{elsewhere}/v1"}
        return {"type": kind, "engine": "nim", "model": GUARD, "parameters": parameters}

    guardrails.create(safety_config(models=[model("other"), model("content_safety")]))
    path = "/v1/guardrail/configs/ns/toolcalling"
    shown = guardrails.client.get(path)["data"]
    del shown["models"][0]
    guardrails.client.patch(path, json={"data": shown})
    guardrails.check("hi")
    assert guardrails.model.headers[-1]["authorization"] == "Bearer key of content_safety"


def test_a_key_survives_the_client_that_sends_back_what_it_was_shown(
    guardrails: Guardrails,
) -> None:
    data = safety_config()
    data["models"][0]["parameters"] = {"api_key": "sk-1", "base_url": f"{guardrails.model.url}/x"}
    guardrails.create(data)
    path = "/v1/guardrail/configs/ns/toolcalling"
    shown = guardrails.client.get(path)["data"]
    shown["models"][0]["name"] = "guard"
    guardrails.client.patch(path, json={"data": shown})
    stored = guardrails.documents.get("guardrail_config", "ns", "toolcalling")
    assert stored["data"]["models"][0]["parameters"]["api_key"] == "sk-1"


def test_a_mask_in_a_configuration_sent_with_a_request_is_refused(guardrails: Guardrails) -> None:
    data = edited("models.0.parameters", {"api_key": "sk-1", "base_url": guardrails.model.url})
    shown = guardrails.create(data)["data"]
    with pytest.raises(UpstreamError, match=r"api_key: \*{6} stands for a secret") as caught:
        guardrails.check("hi", config=shown)
    assert caught.value.status == 422 and not guardrails.model.requests


def test_a_malformed_model_is_told_before_its_masked_key(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    model = {"engine": "nim", "parameters": {"api_key": "******"}}
    path = "/v1/guardrail/configs/ns/toolcalling"
    with pytest.raises(UpstreamError, match="needs a type and an engine") as caught:
        guardrails.client.patch(path, json={"data": safety_config(models=[model])})
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("key", "value"),
    [("namespace", 5), ("name", "bad name!"), ("description", {}), ("custom_fields", "x")],
)
def test_metadata_of_the_wrong_type_is_refused_in_a_sentence(
    guardrails: Guardrails, key: str, value: Any
) -> None:
    body = {"name": "x", "namespace": "ns", "data": safety_config(), key: value}
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.post("/v1/guardrail/configs", json=body)
    assert caught.value.status == 422 and str(caught.value.detail).startswith(key)
    assert guardrails.client.get("/v1/guardrail/configs")["data"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"name": "x", "description": "\\ud800", "data": {}}', "half of a surrogate pair"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"[" * 5000, "deep"),
        (b"", "must be a JSON object"),
    ],
    ids=["surrogate", "no utf-8", "deep", "empty"],
)
def test_a_body_sent_without_a_content_type_cannot_break_the_list_of_configs(
    guardrails: Guardrails, body: bytes, message: str
) -> None:
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.raw("POST", "/v1/guardrail/configs", content=body)
    assert caught.value.status == 422 and message in str(caught.value.detail)
    assert guardrails.client.get("/v1/guardrail/configs")["data"] == []


def test_configs_with_different_models_of_one_type_do_not_go_together(
    guardrails: Guardrails,
) -> None:
    guardrails.create(safety_config(), "a")
    guardrails.create(edited("models.0.model", "other/guard"), "b")
    with pytest.raises(UpstreamError) as caught:
        guardrails.check("a bomb", config=None, config_ids=["ns/a", "ns/b"])
    assert caught.value.status == 422
    assert "different models of type 'content_safety'" in str(caught.value.detail)


def test_a_config_may_have_a_second_prompt_of_a_task_for_another_mode(
    guardrails: Guardrails,
) -> None:
    prompts = safety_config()["prompts"]
    compact = {**prompts[0], "mode": "compact", "messages": [{"type": "user", "content": "short"}]}
    guardrails.create(safety_config(prompts=[*prompts, compact]))
    assert guardrails.check("a bomb")["status"] == "blocked"
    assert "bomb" in json.dumps(guardrails.model.requests[-1]["messages"])
    guardrails.create(safety_config(prompts=[*prompts, compact], prompting_mode="compact"), "short")
    guardrails.check("a bomb", config="ns/short")
    assert guardrails.model.requests[-1]["messages"][0]["content"] == "short"


def test_a_prompt_for_another_mode_does_not_keep_configs_apart(guardrails: Guardrails) -> None:
    prompts = safety_config()["prompts"]
    guardrails.create(safety_config(prompts=[*prompts, {**prompts[0], "mode": "compact"}]))
    guardrails.create({"models": []}, "none")
    ids = ["ns/toolcalling", "ns/none", "ns/toolcalling"]
    assert guardrails.check("hi", config=None, config_ids=ids)["status"] == "success"


def test_a_default_does_not_stand_against_what_another_config_says(
    guardrails: Guardrails,
) -> None:
    guardrails.create(safety_config(enable_rails_exceptions=True), "a")
    guardrails.create(safety_config(), "b")
    for ids in (["ns/a", "ns/b"], ["ns/b", "ns/a"]):
        body = {
            "model": "main/model",
            "messages": [{"role": "user", "content": "a bomb"}],
            "guardrails": {"config_ids": ids},
        }
        answer = guardrails.client.post("/v1/guardrail/chat/completions", json=body)
        message = answer["choices"][0]["message"]
        assert message["role"] == "exception"
        assert json.loads(message["content"])["type"].endswith("Exception")


def test_a_folder_of_the_server_is_refused(guardrails: Guardrails) -> None:
    for body in ({"name": "x", "files_url": "file:///etc"}, {"name": "x"}):
        with pytest.raises(UpstreamError, match="a config needs data"):
            guardrails.client.post("/v1/guardrail/configs", json=body)


def test_a_template_in_a_prompt_cannot_leave_the_sandbox(guardrails: Guardrails) -> None:
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    data = edited("prompts.0.messages", [{"type": "user", "content": template}])
    answer = guardrails.check("hi", config=data)
    assert answer["status"] == "blocked" and not guardrails.model.requests


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TWICE = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}"


@pytest.mark.parametrize("template", [LOOP, TWICE], ids=["loops", "recursion"])
def test_a_template_without_an_end_blocks_its_own_messages_alone(
    guardrails: Guardrails, template: str
) -> None:
    endless = edited("prompts.0.messages", [{"type": "user", "content": template}])
    answer = guardrails.check("hi", config=endless)
    message = answer["rails_status"][INPUT_FLOW]["message"]
    assert answer["status"] == "blocked" and "may compute for at most 1 s" in message
    assert guardrails.check("hi", config=safety_config())["status"] == "success"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'x' * 99999999999 }}",
        "{{ '%099999999999d' % 1 }}",
        f"{{{{ '{'9' * 4000}' | int // 7 }}}}",
        f"{{{{ '{'9' * 4000}' | int is divisibleby(7) }}}}",
        "{{ user_input.encode('punycode') }}",
    ],
    ids=["power", "repeat", "format", "division", "remainder", "codec"],
)
def test_no_operator_and_no_codec_can_make_a_prompt_without_end(
    guardrails: Guardrails, template: str
) -> None:
    data = edited("prompts.0.messages", [{"type": "user", "content": template}])
    guardrails.create(data)
    message = guardrails.check("hi")["rails_status"][INPUT_FLOW]["message"]
    assert "is not allowed in prompts" in message and not guardrails.model.requests


@pytest.mark.parametrize("method", [".rfind(s)", ".rsplit(sep=s)", ".strip(s)", " | trim(s)"])
def test_a_search_in_a_message_cannot_keep_everybody_waiting(
    guardrails: Guardrails, method: str
) -> None:
    template = f"{{% set s = 'ab' ~ user_input[:200000] %}}{{{{ user_input{method} }}}}"
    data = edited("prompts.0.messages", [{"type": "user", "content": template}])
    reason = guardrails.check("a" * 400_000, config=data)["rails_status"][INPUT_FLOW]["message"]
    assert "may not search for 200002 characters in 400000" in reason
    assert not guardrails.model.requests


def test_a_prompt_may_search(guardrails: Guardrails) -> None:
    template = (
        "{{ user_input.rsplit(' ', 1)[1].strip('!') }}{{ '-b' | trim('-') }}{{ ' c' | trim }}"
    )
    guardrails.check("hi a!", config=edited("prompts.0.messages.0.content", template))
    assert guardrails.model.requests[0]["messages"][0]["content"] == "abc"


def test_a_prompt_may_count(guardrails: Guardrails) -> None:
    template = "{% for a in [1, 2, 3] %}{{ loop.index * 2 % 4 }}{% endfor %}"
    guardrails.check("hi", config=edited("prompts.0.messages.0.content", template))
    assert guardrails.model.requests[0]["messages"][0]["content"] == "202"
