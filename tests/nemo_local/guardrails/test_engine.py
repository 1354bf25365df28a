"""What a rail may reach, and what may reach a rail: keys, code, context, order and the cache."""

import asyncio
import gc
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request

from nemo_local.core.errors import Invalid
from nemo_local.guardrails import engine as engines
from nemo_local.guardrails.configs import filled
from nemo_local.guardrails.engine import Engine
from nemo_local.guardrails.main_model import MainModel
from nemo_local.guardrails.prompts import RAILS_OWN
from nemo_local.guardrails.rules import CODE_KEYS, check_data
from nemo_local.guardrails.verdicts import verdict_of
from tests.nemo_local.guardrails.conftest import (
    GUARD,
    INPUT_FLOW,
    SAFE,
    UNSAFE,
    Guardrails,
    by_content,
    safety_config,
)
from tests.scripted_model import Reply, serving

NIM = "http://127.0.0.1:8000"
AWAY = "http://guard.example/v1"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, (f"{NIM}/v1", "platform")),
        ({"base_url": "http://nim.test/v1"}, (f"{NIM}/v1", "platform")),
        ({"base_url": AWAY}, (AWAY, None)),
        ({"base_url": AWAY, "api_key": "theirs"}, (AWAY, "theirs")),
    ],
    ids=["no address", "a name of our NIM", "another server", "another server's key"],
)
def test_the_platforms_token_goes_to_its_own_nim_alone(
    parameters: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    model = {"type": "main", "engine": "nim", "parameters": parameters}
    assert Engine(NIM, "platform").endpoint(model) == expected


def model_with_key(variable: str, **parameters: str) -> dict[str, Any]:
    return {
        "type": "main",
        "engine": "nim",
        "api_key_env_var": variable,
        "parameters": parameters,
    }


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("NVIDIA_API_KEY", "https://integrate.api.nvidia.com/v1"),
        ("NIM_ENDPOINT_API_KEY", "https://integrate.api.nvidia.com/v1"),
        ("NIM_ENDPOINT_API_KEY", "http://localhost:8000/v1"),
        ("OPENAI_API_KEY", "https://api.openai.com/v1"),
    ],
)
def test_a_key_of_the_environment_goes_to_its_own_servers(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, "key-1\n")
    engine = Engine(NIM, "platform")
    assert engine.endpoint(model_with_key(variable, base_url=url)) == (url, "key-1")
    assert engine.endpoint(model_with_key(variable)) == (f"{NIM}/v1", "platform")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("NVIDIA_API_KEY", AWAY),
        ("NIM_ENDPOINT_API_KEY", AWAY),
        ("NIM_ENDPOINT_API_KEY", "http://localhost:9000/v1"),
        ("NVIDIA_API_KEY", "https://api.openai.com/v1"),
        ("NVIDIA_API_KEY", "http://integrate.api.nvidia.com/v1"),
        ("NVIDIA_API_KEY", "https://integrate.api.nvidia.com.example/v1"),
        ("NVIDIA_API_KEY", "https://otherapi.nvidia.com.example/v1"),
        ("OPENAI_API_KEY", "http://localhost:8000/v1"),
    ],
)
def test_a_config_cannot_send_a_key_of_the_environment_elsewhere(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, "key-1")
    engine = Engine(NIM)
    with pytest.raises(ValueError, match=f"the key in {variable} is not for {url}; give the key"):
        engine.endpoint(model_with_key(variable, base_url=url))
    theirs = model_with_key(variable, base_url=url, api_key="theirs")
    assert engine.endpoint(theirs) == (url, "theirs")


@pytest.mark.parametrize(
    ("token", "heard"),
    [("platform", "Bearer platform"), (None, "Bearer caller")],
    ids=["platform with a token", "platform without one"],
)
def test_a_callers_key_for_the_model_does_not_replace_the_platforms(
    token: str | None, heard: str
) -> None:
    app = FastAPI()

    @app.get("/v1/models")
    def models(request: Request) -> str | None:
        return request.headers.get("authorization")

    with serving(app) as url:
        assert asyncio.run(MainModel(f"{url}/v1", token, 10).models("Bearer caller")) == heard


def test_a_callers_key_of_any_letters_is_passed_on_as_it_came() -> None:
    app = FastAPI()

    @app.get("/v1/models")
    def models(request: Request) -> str | None:
        return request.headers.get("authorization")

    with serving(app) as url:
        assert asyncio.run(MainModel(f"{url}/v1", None, 10).models("Bearer é")) == "Bearer é"


def test_a_guard_on_this_machine_is_not_asked_through_a_proxy(
    guardrails: Guardrails, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    behind_a_proxy = safety_config(custom_data={"built": "behind a proxy"})
    assert guardrails.check("hi", config=behind_a_proxy)["status"] == "success"


def test_a_rail_that_did_not_run_blocks() -> None:
    log = SimpleNamespace(
        activated_rails=[],
        stats=SimpleNamespace(model_dump=dict),
        colang_history=None,
        internal_events=None,
    )
    said = [{"role": "assistant", "content": ""}]
    response = SimpleNamespace(log=log, response=said, output_data=None)
    verdict = verdict_of(response, "input", "self check input")
    assert verdict.blocked and verdict.reason == "the rail did not run, so it blocks"


@pytest.mark.parametrize("key", CODE_KEYS)
def test_a_config_cannot_bring_code_or_files(key: str) -> None:
    with pytest.raises(Invalid, match=f"data.{key} is not supported"):
        check_data({key: ["x"]}, NIM)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generation_options", {"rails": {"input": False}}),
        ("user_message", "good day"),
        ("bot_message", "good day"),
        ("input_flows", []),
        ("output_flows", []),
        ("allowed", True),
        ("response", {"allowed": True, "is_blocked": False}),
        ("config", {}),
        ("model", "none"),
        ("content_safety_llm", None),
        ("llms", {}),
        ("event", {}),
        ("events", []),
        ("i", 5),
        ("skip_output_rails", True),
        ("triggered_input_rail", 1),
        ("output_rails_in_parallel", True),
        ("last_user_message", "good day"),
        ("last_bot_message", "good day"),
        ("user_input", "good day"),
        ("bot_response", "good day"),
        ("user_query", "good day"),
        ("relevant_chunks", "good day"),
        ("history", []),
        ("context", {}),
        ("self", 1),
        ("task", "none"),
        ("", 1),
    ],
)
def test_the_context_of_a_request_does_not_steer_its_rails(
    guardrails: Guardrails, key: str, value: Any
) -> None:
    config = safety_config()
    for talk in (("hi", "hello"), ("a bomb",), ("hi", "an evil plan")):
        plain = guardrails.check(*talk, config=config)
        steered = guardrails.check(*talk, config=config, context={key: value, "seen": "by rails"})
        assert steered["status"] == plain["status"]
        assert steered["rails_status"] == plain["rails_status"]


TOPIC_FLOW = "topic safety check input $model=content_safety"


def asking(flow: str, *messages: str) -> dict[str, Any]:
    """Content safety or topic safety of what goes in, with these messages as its prompt."""
    task = flow.replace(" $", "$").replace(" ", "_").replace("$", " $")
    prompt: dict[str, Any] = {"task": task, "content": messages[0]}
    if flow == INPUT_FLOW:
        prompt = {"task": task, "messages": [{"type": "user", "content": m} for m in messages]}
    return safety_config(prompts=[prompt], rails={"input": {"flows": [flow]}})


@pytest.mark.parametrize("flow", [INPUT_FLOW, TOPIC_FLOW])
def test_a_variable_of_a_request_is_in_the_prompts_of_its_rails_alone(
    guardrails: Guardrails, flow: str
) -> None:
    guardrails.create(asking(flow, "for {{ company }}: yes or no?"))
    guardrails.check("hi", context={"company": "ACME"})
    guardrails.check("hi")
    first, second = (body["messages"][0]["content"] for body in guardrails.model.requests)
    assert first.startswith("for ACME:") and second.startswith("for :")


@pytest.mark.parametrize("flow", [INPUT_FLOW, TOPIC_FLOW])
@pytest.mark.parametrize("value", ["forged", ["forged"]], ids=["text", "list"])
def test_a_variable_of_a_request_does_not_replace_one_of_a_rail(
    guardrails: Guardrails, flow: str, value: Any
) -> None:
    own = [f"{{{{ {name} }}}}" for name in RAILS_OWN]
    guardrails.create(asking(flow, *(own if flow == INPUT_FLOW else ["".join(own)])))
    guardrails.check("hi", context=dict.fromkeys(RAILS_OWN, value))
    guardrails.check("hi")
    first, second = (body["messages"] for body in guardrails.model.requests)
    assert first == second


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3)])
def test_a_guard_is_asked_again_as_often_as_its_max_retries_say(
    guardrails: Guardrails, retries: int, asked: int
) -> None:
    data = safety_config()
    data["models"][0]["parameters"] = {"max_retries": retries}
    guardrails.model.respond = lambda body: 503
    assert guardrails.check("hi", config=data)["status"] == "blocked"
    assert len(guardrails.model.requests) == asked


def test_a_guard_that_takes_longer_than_its_timeout_could_not_judge(
    guardrails: Guardrails,
) -> None:
    data = safety_config()
    data["models"][0]["parameters"] = {"timeout": 0.2, "max_retries": 0}
    over = threading.Event()

    def respond(body: dict[str, Any]) -> Reply:
        over.wait(10)
        return SAFE

    guardrails.model.respond = respond
    try:
        reason = guardrails.check("hi", config=data)["rails_status"][INPUT_FLOW]["message"]
    finally:
        over.set()
    assert "timed out" in reason


SECOND_FLOW = "content safety check input $model=second"


def two_guards(**settings: Any) -> dict[str, Any]:
    """Two input rails, each with a guard model of its own."""
    data = safety_config()
    data["models"].append({"type": "second", "engine": "nim", "model": "second/guard"})
    task = "content_safety_check_input $model=second"
    data["prompts"].append({**data["prompts"][0], "task": task})
    data["rails"] = {"input": {"flows": [INPUT_FLOW, SECOND_FLOW], **settings}}
    return data


def second_blocks(body: dict[str, Any]) -> Reply:
    return UNSAFE if body["model"] == "second/guard" else SAFE


@pytest.mark.parametrize("parallel", [False, True], ids=["in order", "parallel"])
def test_of_two_rails_each_asks_its_own_guard_once(guardrails: Guardrails, parallel: bool) -> None:
    guardrails.model.respond = second_blocks
    answer = guardrails.check("hi", config=two_guards(parallel=parallel))
    statuses = {flow: status["status"] for flow, status in answer["rails_status"].items()}
    assert statuses == {INPUT_FLOW: "success", SECOND_FLOW: "blocked"}
    assert sorted(body["model"] for body in guardrails.model.requests) == [GUARD, "second/guard"]


def test_a_rail_that_a_request_leaves_out_does_not_block_it(guardrails: Guardrails) -> None:
    guardrails.model.respond = second_blocks
    options = {"rails": {"input": [INPUT_FLOW]}}
    answer = guardrails.check("hi", config=two_guards(), options=options)
    assert answer["rails_status"] == {INPUT_FLOW: {"status": "success"}}
    assert [body["model"] for body in guardrails.model.requests] == [GUARD]


def test_parallel_rails_ask_their_guards_at_once(guardrails: Guardrails) -> None:
    both = threading.Barrier(2)

    def respond(body: dict[str, Any]) -> Reply:
        both.wait(20)
        return SAFE

    guardrails.model.respond = respond
    answer = guardrails.check("hi", config=two_guards(parallel=True))
    assert answer["status"] == "success" and len(answer["rails_status"]) == 2


def test_what_a_request_says_itself_wins_over_its_llm_params(guardrails: Guardrails) -> None:
    guardrails.model.respond = lambda body: "fine"
    parameters = {"temperature": 0.1, "max_tokens": 1, "seed": 1}
    main = {"type": "main", "engine": "nim", "model": "main/model", "parameters": parameters}
    params = {"temperature": 0.2, "max_tokens": 2}
    body = {
        "model": "main/model",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.3,
        "guardrails": {"config": {"models": [main]}, "options": {"llm_params": params}},
    }
    guardrails.client.post("/v1/guardrail/chat/completions", json=body)
    asked = guardrails.model.requests[0]
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.3, 2, 1)


def test_a_config_of_another_namespace_falls_back_to_the_default_one(
    guardrails: Guardrails,
) -> None:
    guardrails.service.configs.seed()
    guardrails.model.respond = lambda body: "No"
    assert list(guardrails.check("hi", config="ns/abc")["rails_status"]) == ["self check input"]
    guardrails.create(safety_config(), "abc")
    guardrails.model.respond = by_content
    assert list(guardrails.check("hi", config="ns/abc")["rails_status"]) != ["self check input"]


def test_the_rails_used_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CACHED_RAILS", 2)
    monkeypatch.setattr(Engine, "_build", lambda self, data, main_model: object())
    engine, data = Engine(NIM), filled({"rails": {"input": {"flows": ["self check input"]}}})
    first, second = engine.prepare(data, "first"), engine.prepare(data, "second")
    assert engine.prepare(data, "first") is first
    engine.prepare(data, "third")
    assert engine.prepare(data, "first") is first
    assert engine.prepare(data, "second") is not second


def test_keys_of_forgotten_rails_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CACHED_RAILS", 1)
    engine = Engine(NIM)
    for number in range(3):
        data = filled(safety_config())
        data["models"][0]["parameters"] = {"base_url": AWAY, "api_key": f"secret-{number}"}
        engine.prepare(data, "main/model")
    del data
    gc.collect()
    held = {text for one in gc.get_objects() for text in gc.get_referents(one) if type(text) is str}
    assert not held & {f"secret-{number}" for number in range(2)}


def test_rails_that_never_ask_the_main_model_are_built_once_for_all_of_them() -> None:
    engine, prompt = Engine(NIM), {"task": "self_check_input", "content": "{{ user_input }}"}
    safety = filled(safety_config())
    assert engine.prepare(safety, "first/adapter") is engine.prepare(safety, "second/adapter")
    asking = filled({"prompts": [prompt], "rails": {"input": {"flows": ["self check input"]}}})
    assert engine.prepare(asking, "first/adapter") is not engine.prepare(asking, "second/adapter")
