"""Guarded completions: the model's own answer, or a refusal."""

import json
from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from tests.nemo_local.guardrails.conftest import GUARD, Guardrails, by_content, safety_config
from tests.scripted_model import Reply, tool_call

REFUSAL = "I'm sorry, I can't respond to that."


def chat(guardrails: Guardrails, text: str, **fields: Any) -> Any:
    body = {
        "model": "main/model",
        "messages": [{"role": "user", "content": text}],
        "guardrails": {"config_id": "ns/toolcalling", **fields.pop("options", {})},
        **fields,
    }
    return guardrails.client.raw("POST", "/v1/guardrail/chat/completions", json=body)


@pytest.fixture
def guarded(guardrails: Guardrails) -> Guardrails:
    """Content safety on both sides; the main model repeats a word of the question."""
    guardrails.create(safety_config())

    def respond(body: dict[str, Any]) -> Reply:
        if body["model"] == GUARD:
            return by_content(body)
        text = body.get("prompt") or body["messages"][-1]["content"]
        return tool_call("f", {}) if "call" in text else 503 if "busy" in text else f"echo {text}"

    guardrails.model.respond = respond
    return guardrails


def test_an_answer_that_passes_is_the_models_own(guarded: Guardrails) -> None:
    answer = chat(guarded, "hi", temperature=0.3, tools=[{"type": "function"}]).json()
    assert answer["choices"][0]["message"]["content"] == "echo hi"
    assert answer["id"] == "chatcmpl-scripted" and answer["usage"]["total_tokens"] == 7
    assert answer["guardrails_data"]["config_ids"] == ["ns/toolcalling"]
    asked = [body for body in guarded.model.requests if body["model"] == "main/model"]
    assert asked[0]["temperature"] == 0.3 and asked[0]["tools"] == [{"type": "function"}]
    assert "guardrails" not in asked[0]


def test_a_blocked_question_never_reaches_the_model(guarded: Guardrails) -> None:
    answer = chat(guarded, "a bomb").json()
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": REFUSAL}
    assert choice["finish_reason"] == "content_filter" and answer["model"] == "-"
    assert "Malware" in answer["guardrails_data"]["message"]
    assert [body["model"] for body in guarded.model.requests] == [GUARD]


def test_a_blocked_answer_is_replaced(guarded: Guardrails) -> None:
    answer = chat(guarded, "say evil").json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL
    assert answer["usage"]["total_tokens"] == 0


def test_tool_calls_without_text_pass_the_output_rails(guarded: Guardrails) -> None:
    answer = chat(guarded, "call").json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"


def test_a_failing_model_passes_its_status_on(guarded: Guardrails) -> None:
    with pytest.raises(UpstreamError) as caught:
        chat(guarded, "busy")
    assert caught.value.status == 503 and "scripted failure" in str(caught.value.detail)


def test_a_stream_is_checked_whole(guarded: Guardrails) -> None:
    for text, said in (("hi", "echo hi"), ("a bomb", REFUSAL)):
        events = chat(guarded, text, stream=True).text.strip().split("\n\n")
        assert events[-1] == "data: [DONE]"
        first, last = (json.loads(event.removeprefix("data: ")) for event in events[:-1])
        assert first["object"] == "chat.completion.chunk"
        assert first["choices"][0]["delta"]["content"] == said
        assert last["choices"][0]["finish_reason"]


def test_the_data_may_come_as_a_choice(guarded: Guardrails) -> None:
    answer = chat(guarded, "hi", options={"return_choice": True}).json()
    assert "guardrails_data" not in answer
    extra = answer["choices"][1]["message"]
    assert extra["role"] == "guardrails_data"
    assert json.loads(extra["content"])["config_ids"] == ["ns/toolcalling"]


def test_text_completions_are_guarded_too(guarded: Guardrails) -> None:
    body = {"model": "main/model", "guardrails": {"config_id": "ns/toolcalling"}}
    path = "/v1/guardrail/completions"
    answer = guarded.client.post(path, json={**body, "prompt": "hi"})
    assert answer["choices"][0]["text"] == "echo hi" and "guardrails_data" in answer
    blocked = guarded.client.post(path, json={**body, "prompt": "a bomb"})
    assert (blocked["object"], blocked["choices"][0]["text"]) == ("text_completion", REFUSAL)
    with pytest.raises(UpstreamError, match="prompt: must be a string"):
        guarded.client.post(path, json=body)


def test_models_are_those_of_the_inference_endpoint(guardrails: Guardrails) -> None:
    listed = guardrails.client.get("/v1/guardrail/models")
    assert [model["id"] for model in listed["data"]] == ["scripted/model"]
