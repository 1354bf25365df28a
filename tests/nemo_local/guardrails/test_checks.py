"""Checks: verdicts, the reasons of a block, and that nothing fails open."""

import gc
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from nemo_local.core.client import UpstreamError
from nemo_local.guardrails.configs import filled
from nemo_local.guardrails.engine import Engine
from nemo_local.processes import wait_until
from tests.leaving import ask_and_leave
from tests.nemo_local.guardrails.conftest import (
    GUARD,
    INPUT_FLOW,
    OUTPUT_FLOW,
    SAFE,
    Guardrails,
    by_content,
    guardrails_beside,
    safety_config,
)
from tests.scripted_model import Reply, scripted_model, tool_call


def refused(guardrails: Guardrails, *texts: str, **options: Any) -> tuple[int, Any]:
    with pytest.raises(UpstreamError) as caught:
        guardrails.check(*texts, **options)
    return caught.value.status, caught.value.detail


def test_safe_passes_and_unsafe_is_blocked_with_its_categories(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    passed = guardrails.check("Any beta giveaways?")
    assert passed["status"] == "success"
    assert passed["rails_status"] == {INPUT_FLOW: {"status": "success"}}
    assert "message" not in passed["guardrails_data"]
    blocked = guardrails.check("how to build a bomb")
    assert blocked["status"] == "blocked"
    reason = "content safety check input blocked: Malware, S24: Deleting Logs"
    assert blocked["rails_status"] == {INPUT_FLOW: {"status": "blocked", "message": reason}}
    assert blocked["guardrails_data"]["message"] == reason
    request = guardrails.model.requests[0]
    assert request["model"] == GUARD and request["max_tokens"] == 50
    assert request["temperature"] < 1e-3
    # The prompt's undefined variable renders empty.
    assert [message["content"] for message in request["messages"]] == [
        "Categories: S1: Violence. END",
        "Any beta giveaways?",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("prose", "no verdict", id="prose"),
        pytest.param("half", "no verdict", id="half an object"),
        pytest.param("other json", "no verdict", id="another object"),
        pytest.param("silent", "no verdict", id="nothing"),
        pytest.param("down", "503", id="failing model"),
        pytest.param("unknown model", "404", id="unknown model"),
    ],
)
@pytest.mark.parametrize("parallel", [False, True], ids=["in order", "parallel"])
def test_a_guard_that_cannot_judge_blocks_and_says_so(
    guardrails: Guardrails, text: str, reason: str, parallel: bool
) -> None:
    data = safety_config()
    data["rails"]["input"]["parallel"] = parallel
    answer = guardrails.check(text, config=data)
    assert answer["status"] == "blocked"
    assert reason in answer["rails_status"][INPUT_FLOW]["message"]
    assert answer["guardrails_data"]["message"] == answer["rails_status"][INPUT_FLOW]["message"]


@pytest.mark.parametrize("parallel", [False, True], ids=["in order", "parallel"])
def test_a_prompt_that_is_too_long_blocks_and_says_so(
    guardrails: Guardrails, parallel: bool
) -> None:
    data = safety_config()
    data["rails"]["input"]["parallel"] = parallel
    answer = guardrails.check("bomb " * 20_000, config=data)
    assert answer["status"] == "blocked" and not guardrails.model.requests
    reason = answer["rails_status"][INPUT_FLOW]["message"]
    assert "could not judge" in reason and "exceeds max length of 16000 characters" in reason
    assert "no verdict" not in reason


def test_a_rail_that_fails_before_it_asks_speaks_of_no_reply(guardrails: Guardrails) -> None:
    # The library wants topic safety's prompt as one text.
    prompt = {"task": "topic_safety_check_input $model=topic", "messages": ["[]"]}
    flow = "topic safety check input $model=topic"
    data = {
        "models": [{"type": "topic", "engine": "nim", "model": "topic/model"}],
        "prompts": [prompt],
        "rails": {"input": {"flows": [flow]}},
    }
    answer = guardrails.check("hi", config=data)
    assert answer["status"] == "blocked" and not guardrails.model.requests
    reason = "the rail could not judge: no guard model was asked, so it blocks"
    assert answer["rails_status"][flow]["message"] == reason


def test_a_content_safety_prompt_without_a_parser_still_fails_closed(
    guardrails: Guardrails,
) -> None:
    data = safety_config()
    for prompt in data["prompts"]:
        del prompt["output_parser"]
    guardrails.model.respond = lambda body: "unsafe S1"
    assert guardrails.check("hi", config=data)["status"] == "blocked"
    guardrails.model.respond = lambda body: "hm"
    assert guardrails.check("hi", config=data)["status"] == "blocked"
    guardrails.model.respond = lambda body: "safe"
    assert guardrails.check("hi", config=data)["status"] == "success"


@pytest.mark.parametrize(
    "reply", ["", "I cannot tell.", "hm", "The answer is no", tool_call("f", {})]
)
@pytest.mark.parametrize("flow", [INPUT_FLOW, "self check input"])
def test_a_guard_in_words_that_are_no_verdict_blocks_and_says_so(
    guardrails: Guardrails, flow: str, reply: Reply
) -> None:
    data = safety_config()
    del data["prompts"][0]["output_parser"]
    data["prompts"].append({"task": "self_check_input", "content": "{{ user_input }}"})
    data["rails"] = {"input": {"flows": [flow]}}
    guardrails.model.respond = lambda body: reply
    logged = {"log": {"activated_rails": True}}
    answer = guardrails.check("hi", config=data, options=logged)
    assert answer["status"] == "blocked" and len(guardrails.model.requests) == 1
    (rail,) = answer["guardrails_data"]["log"]["activated_rails"]
    outcome = {"allowed": False, "policy_violations": ["JSON parsing failed"]}
    assert rail["executed_actions"][0]["return_value"] == outcome
    reason = "the rail could not judge: the guard model gave no verdict, so it blocks"
    assert answer["rails_status"][flow]["message"] == reason
    for words, status in (("No.", "success"), ("It's safe", "blocked"), ("Yes, block", "blocked")):
        guardrails.model.respond = lambda body, words=words: words  # type: ignore[misc]
        answer = guardrails.check("hi", config=data)
        assert answer["status"] == status


def test_output_rails_judge_the_assistant_message_with_the_user_message(
    guardrails: Guardrails,
) -> None:
    guardrails.create(safety_config())
    passed = guardrails.check("hi", "hello")
    assert list(passed["rails_status"]) == [INPUT_FLOW, OUTPUT_FLOW]
    assert guardrails.model.requests[-1]["messages"][0]["content"] == "user: hi\nresponse: hello"
    blocked = guardrails.check("hi", "evil plan")
    assert [status["status"] for status in blocked["rails_status"].values()] == [
        "success",
        "blocked",
    ]
    first = guardrails.check("a bomb", "evil plan")
    assert list(first["rails_status"]) == [INPUT_FLOW]


def test_only_the_last_user_message_is_checked(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    assert guardrails.check("a bomb", "no", "hi")["status"] == "success"


def test_self_check_asks_the_requested_model_and_yes_blocks(guardrails: Guardrails) -> None:
    guardrails.service.start()
    guardrails.model.respond = lambda body: "Yes."
    body = {"model": "main/model", "messages": [{"role": "user", "content": "hi"}]}
    answer = guardrails.client.post("/v1/guardrail/checks", json=body)
    assert answer["status"] == "blocked"
    assert answer["rails_status"]["self check input"]["status"] == "blocked"
    assert guardrails.model.requests[-1]["model"] == "main/model"
    guardrails.model.respond = lambda body: "No"
    assert guardrails.check("hi", "ho", config="self-check")["rails_status"] == {
        "self check input": {"status": "success"},
        "self check output": {"status": "success"},
    }
    assert guardrails.check("", config="self-check")["status"] == "blocked"


def test_topic_safety_sees_the_history(guardrails: Guardrails) -> None:
    flow = "topic safety check input $model=topic"
    data = {
        "models": [{"type": "topic", "engine": "nim", "model": "topic/model"}],
        "prompts": [
            {"task": "topic_safety_check_input $model=topic", "content": "Only talk about cats."}
        ],
        "rails": {"input": {"flows": [flow]}},
    }
    guardrails.model.respond = lambda body: " Off-topic\n"
    assert guardrails.check("cats?", "Yes.", "dogs?", config=data)["status"] == "blocked"
    messages = guardrails.model.requests[-1]["messages"]
    assert messages[0]["content"].startswith("Only talk about cats.")
    assert [message["content"] for message in messages[1:]] == ["cats?", "Yes.", "dogs?"]
    guardrails.model.respond = lambda body: "on-topic"
    assert guardrails.check("cats?", config=data)["rails_status"] == {flow: {"status": "success"}}


def test_options_choose_directions_flows_and_logs(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    off = {"rails": {"input": False}}
    assert guardrails.check("a bomb", options=off)["rails_status"] == {}
    only = {"rails": {"input": False, "output": [OUTPUT_FLOW]}}
    assert list(guardrails.check("a bomb", "x", options=only)["rails_status"]) == [OUTPUT_FLOW]
    logged = guardrails.check("a bomb", options={"log": {"activated_rails": True}})
    rail = logged["guardrails_data"]["log"]["activated_rails"][0]
    assert (rail["name"], rail["type"], rail["stop"]) == (INPUT_FLOW, "input", True)
    assert rail["decisions"] == ["execute content_safety_check_input", "refuse to respond", "stop"]
    action = rail["executed_actions"][0]
    assert action["return_value"] == {
        "allowed": False,
        "policy_violations": ["Malware", "S24: Deleting Logs"],
    }
    assert action["llm_calls"][0]["task"] == "content_safety_check_input $model=content_safety"
    log = guardrails.check("hi")["guardrails_data"]["log"]
    assert log["activated_rails"] == [] and log["llm_calls"] is None
    assert log["stats"]["llm_calls_count"] == 1
    assert log["stats"]["llm_calls_total_tokens"] == 7


def test_a_flow_that_is_none_is_refused_before_anybody_is_asked(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    messages = [{"role": "user", "content": "a bomb"}, {"role": "assistant", "content": "x"}]
    for direction in ("input", "output"):
        rails = {"options": {"rails": {direction: ["self check facts"]}}}
        for path in ("checks", "chat/completions"):
            body = {
                "model": "m",
                "messages": messages,
                "guardrails": {"config_id": "ns/toolcalling", **rails},
            }
            with pytest.raises(UpstreamError, match="is not a flow of this") as caught:
                guardrails.client.post(f"/v1/guardrail/{path}", json=body)
            assert caught.value.status == 422 and not guardrails.model.requests


def test_rails_exceptions_block_too(guardrails: Guardrails) -> None:
    data = safety_config(enable_rails_exceptions=True)
    assert guardrails.check("a bomb", config=data)["status"] == "blocked"
    assert guardrails.check("hi", config=data)["status"] == "success"


def test_no_rails_is_success_without_statuses(guardrails: Guardrails) -> None:
    answer = guardrails.check("hi", config={"models": []})
    assert (answer["status"], answer["rails_status"]) == ("success", {})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, 422, "model: Field required"),
        ({"model": "m"}, 422, "messages: Field required"),
        ({"model": "m", "messages": []}, 422, "messages: Field required"),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, 422, "nothing to check"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"image_url": {}}]}]},
            422,
            "only text parts",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "user", "content": "x"}],
                "guardrails": {"config_id": "a", "config_ids": ["b"]},
            },
            422,
            "only one of",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "user", "content": "x"}],
                "guardrails": {"config_id": "a", "config": {}},
            },
            422,
            "only one of",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "user", "content": "x"}],
                "guardrails": {"config_id": "ns/absent"},
            },
            400,
            "Guardrail config not found: ns/absent",
        ),
    ],
)
def test_a_malformed_check_is_refused_with_a_sentence(
    guardrails: Guardrails, body: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.post("/v1/guardrail/checks", json=body)
    assert caught.value.status == status and message in str(caught.value.detail)
    assert isinstance(caught.value.detail, str)


OPTIONS = "guardrails.options"


WRONG_TYPES = [
    ({"options": {"log": "x"}}, f"{OPTIONS}.log: must be an object"),
    ({"options": {"rails": "x"}}, f"{OPTIONS}.rails: must be an object"),
    ({"options": {"rails": ["inputs"]}}, f"{OPTIONS}.rails: 'inputs' is not one of"),
    ({"options": {"rails": {"input": "x"}}}, f"{OPTIONS}.rails.input: must be true, false or"),
    ({"options": {"llm_params": "x"}}, f"{OPTIONS}.llm_params: must be an object"),
    ({"options": {"output_vars": 5}}, f"{OPTIONS}.output_vars: must be true, false or"),
    ({"options": {"output_vars": [5]}}, f"{OPTIONS}.output_vars: must be true, false or"),
    ({"options": "x"}, "guardrails.options: must be an object"),
    ({"context": "x"}, "guardrails.context: must be an object"),
    ({"config_id": False}, "guardrails: config_id and config_ids name configurations as"),
    ({"config_ids": {}}, "guardrails: config_id and config_ids name configurations as"),
    ({"config": 5}, "guardrails.config: must be the name of a configuration or an object"),
    (
        {"config": safety_config(rails={"output": {"streaming": "x"}})},
        "data.rails.output.streaming must be a JSON object",
    ),
]


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [*(("checks", *case) for case in WRONG_TYPES), ("chat/completions", *WRONG_TYPES[0])],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_an_option_of_the_wrong_type_is_refused_by_name(
    guardrails: Guardrails, path: str, given: dict[str, Any], message: str
) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "messages": messages, "guardrails": given}
    with pytest.raises(UpstreamError) as caught:
        guardrails.client.post(f"/v1/guardrail/{path}", json=body)
    assert caught.value.status == 422 and str(caught.value.detail).startswith(message)
    assert not guardrails.model.requests


def test_options_list_the_directions_that_run(guardrails: Guardrails) -> None:
    answer = guardrails.check("hi", "ho", config=safety_config(), options={"rails": ["output"]})
    assert list(answer["rails_status"]) == [OUTPUT_FLOW]


def test_several_configs_are_merged_and_text_parts_are_read(guardrails: Guardrails) -> None:
    guardrails.service.start()
    guardrails.create(safety_config())
    guardrails.model.respond = lambda body: (
        "No" if "Question:" in str(body) else '{"User Safety": "safe"}'
    )
    body = {
        "model": "main/model",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "guardrails": {"config_ids": ["ns/toolcalling", "default/self-check"]},
    }
    answer = guardrails.client.post("/v1/guardrail/checks", json=body)
    assert answer["rails_status"] == {
        INPUT_FLOW: {"status": "success"},
        "self check input": {"status": "success"},
    }
    assert answer["guardrails_data"]["config_ids"] == body["guardrails"]["config_ids"]


def test_a_changed_config_is_in_force_at_once(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    assert guardrails.check("a bomb")["status"] == "blocked"
    rails = {"input": {"flows": []}}
    guardrails.client.patch(
        "/v1/guardrail/configs/ns/toolcalling", json={"data": safety_config(rails=rails)}
    )
    assert guardrails.check("a bomb")["status"] == "success"


def test_a_built_configuration_is_reused() -> None:
    engine = Engine("http://127.0.0.1:9")
    first = engine.prepare(filled(safety_config()), "m")
    assert engine.prepare(filled(safety_config()), "m") is first
    engine.close()


def test_a_reply_that_is_no_verdict_does_not_block_a_text_for_ever(guardrails: Guardrails) -> None:
    data = safety_config()
    data["models"][0]["cache"] = {"enabled": True}
    guardrails.create(data)
    guardrails.model.respond = lambda body: "I think this is fine."
    assert guardrails.check("hi")["status"] == "blocked"
    guardrails.model.respond = by_content
    assert guardrails.check("hi")["status"] == "success"


def test_a_verdict_with_half_a_surrogate_pair_can_be_shown(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    unsafe = '{"User Safety": "unsafe", "Safety Categories": "\\ud800"}'
    guardrails.model.respond = lambda body: unsafe
    answer = guardrails.check("hi", options={"log": {"activated_rails": True}})
    assert answer["status"] == "blocked" and answer["guardrails_data"]["log"]["activated_rails"]


def test_building_one_configuration_keeps_no_other_request_waiting(
    guardrails: Guardrails, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardrails.create(safety_config())
    assert guardrails.check("hi")["status"] == "success"
    building, go_on = threading.Event(), threading.Event()
    build = Engine._build

    def slow(self: Engine, data: Any, main_model: str) -> Any:
        building.set()
        assert go_on.wait(30)
        return build(self, data, main_model)

    monkeypatch.setattr(Engine, "_build", slow)
    with ThreadPoolExecutor() as pool:
        new = pool.submit(guardrails.check, "hi", config=safety_config(custom_data={"a": 1}))
        assert building.wait(10)
        try:
            assert guardrails.check("hi")["status"] == "success"
            assert not new.done()
        finally:
            go_on.set()
        assert new.result()["status"] == "success"


def test_connections_of_configurations_sent_with_requests_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 3  # it takes half a second to make one
    monkeypatch.setattr("nemo_local.guardrails.engine.CACHED_RAILS", kept)

    def connections() -> int:
        gc.collect()
        return sum(
            1
            for one in psutil.Process().net_connections("tcp")
            if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
        )

    with scripted_model() as model, guardrails_beside(model, tmp_path) as guardrails:
        model.respond = by_content
        port = int(model.url.rsplit(":", 1)[1])
        for number in range(kept + 4):
            guardrails.check("hi", config=safety_config(custom_data={"number": number}))
        wait_until(lambda: connections() <= kept + 1, 20, "connections are closed")


def test_a_client_that_leaves_amid_a_check_is_logged_as_one_that_left(
    guardrails: Guardrails, caplog: pytest.LogCaptureFixture
) -> None:
    guardrails.create(safety_config())
    begun, left = threading.Event(), threading.Event()

    def respond(_: dict[str, Any]) -> Reply:
        begun.set()
        left.wait(20)
        return SAFE

    guardrails.model.respond = respond
    body = {
        "model": "main/model",
        "messages": [{"role": "user", "content": "hi"}],
        "guardrails": {"config_id": "ns/toolcalling"},
    }
    path = "/v1/guardrail/checks"
    with caplog.at_level(logging.INFO, "nemo_local.core.middleware"):
        ask_and_leave(f"{guardrails.client.base_url}{path}", body, begun)
        try:
            wait_until(lambda: f"POST {path} 499" in caplog.text, 20, "the log has the request")
        finally:
            left.set()
