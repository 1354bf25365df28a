"""Guarded completions: the model's own answer, or a refusal."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from nemo_local.core.client import UpstreamError
from tests.leaving import ask_and_leave
from tests.nemo_local.guardrails.conftest import (
    GUARD,
    INPUT_FLOW,
    Guardrails,
    by_content,
    guardrails_beside,
    safety_config,
)
from tests.scripted_model import (
    Reply,
    ScriptedModel,
    completion,
    scripted_model,
    serving,
    tool_call,
)

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


CALL = tool_call("f", {})
SAID: list[Reply] = ["one", "evil two", CALL, {**CALL, "content": "an evil call"}, "five"]


class SeveralChoices(ScriptedModel):
    """A main model that says the first `n` of SAID, and the guard."""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        @app.post("/v1/completions")
        def answer(body: dict[str, Any]) -> Any:
            self.requests.append(body)
            if body["model"] == GUARD:
                return completion(body, by_content(body))
            choices = [completion(body, reply)["choices"][0] for reply in SAID]
            numbered = [{**choice, "index": n} for n, choice in enumerate(choices)]
            return {**completion(body, ""), "choices": numbered[: body["n"]]}

        return app


@pytest.fixture
def choosing(tmp_path: Path) -> Iterator[Guardrails]:
    """Content safety on both sides of a main model that gives several choices."""
    model = SeveralChoices()
    with serving(model.app()) as model.url, guardrails_beside(model, tmp_path) as guardrails:
        guardrails.create(safety_config())
        yield guardrails


def test_an_unsafe_choice_after_the_first_does_not_get_out(choosing: Guardrails) -> None:
    answer = chat(choosing, "hi", n=5, options={"options": {"log": {"llm_calls": True}}}).json()
    refused = {"role": "assistant", "content": REFUSAL}
    messages = [choice["message"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3, 4]
    # A call without text has nothing to judge; one that is refused takes its call along.
    assert messages[1:4] == [refused, CALL, refused]
    assert (messages[0]["content"], messages[4]["content"]) == ("one", "five")
    assert answer["choices"][1]["finish_reason"] == "content_filter"
    assert answer["id"] == "chatcmpl-scripted" and answer["usage"]["total_tokens"] == 7
    data = answer["guardrails_data"]
    assert "content safety check output blocked" in data["message"]
    assert data["log"]["stats"]["llm_calls_count"] == len(data["log"]["llm_calls"]) == 5


def test_n_in_llm_params_is_guarded_too(choosing: Guardrails) -> None:
    answer = chat(choosing, "hi", options={"options": {"llm_params": {"n": 2, "stream": True}}})
    assert [c["message"]["content"] for c in answer.json()["choices"]] == ["one", REFUSAL]
    assert "stream" not in choosing.model.requests[1]


def test_an_unsafe_choice_does_not_get_into_a_stream(choosing: Guardrails) -> None:
    events = chat(choosing, "hi", n=5, stream=True).text.strip().split("\n\n")
    parts = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-1]]
    deltas = [(p["index"], p["delta"].get("content")) for p in parts if p["delta"]]
    assert deltas == [(0, "one"), (1, REFUSAL), (2, None), (3, REFUSAL), (4, "five")]
    calls = [p["index"] for p in parts if p["delta"].get("tool_calls")]
    assert calls == [2] and events[-1] == "data: [DONE]"


def test_an_unsafe_choice_of_a_text_completion_is_replaced(choosing: Guardrails) -> None:
    guarded = {"config_id": "ns/toolcalling"}
    body = {"model": "main/model", "prompt": "hi", "n": 2, "guardrails": guarded}
    answer = choosing.client.post("/v1/guardrail/completions", json=body)
    assert [choice["text"] for choice in answer["choices"]] == ["one", REFUSAL]


def test_a_chat_too_long_for_the_guard_says_so(guarded: Guardrails) -> None:
    answer = chat(guarded, "x " * 9000).json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL
    assert "exceeds max length of 16000 characters" in answer["guardrails_data"]["message"]
    assert not guarded.model.requests


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
    assert caught.value.status == 503
    assert caught.value.response_body == {"detail": {"detail": "scripted failure 503"}}


def test_a_model_that_cannot_be_reached_is_a_gateway_timeout(guarded: Guardrails) -> None:
    main = {"type": "main", "engine": "nim", "parameters": {"base_url": "http://127.0.0.1:9/v1"}}
    data = safety_config()
    guarded.create({**data, "models": [*data["models"], main]}, "away")
    for stream in (False, True):
        with pytest.raises(UpstreamError, match="does not answer") as caught:
            chat(guarded, "hi", options={"config_id": "ns/away"}, stream=stream)
        assert caught.value.status == 504


def test_a_page_in_place_of_a_completion_is_told_as_that(tmp_path: Path) -> None:
    page = FastAPI()
    page.post("/v1/chat/completions")(lambda: HTMLResponse("<html>hello</html>"))
    model = ScriptedModel()
    with serving(page) as model.url, guardrails_beside(model, tmp_path) as guardrails:
        guardrails.create({"models": []})
        with pytest.raises(UpstreamError, match="not a completion: '<html>hello") as caught:
            chat(guardrails, "hi")
        assert caught.value.status == 502


def test_a_number_that_json_does_not_have_is_null_in_an_answer(tmp_path: Path) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    def answer(body: dict[str, Any]) -> Response:
        said = by_content(body) if body["model"] == GUARD else "fine"
        text = json.dumps({**completion(body, said), "scores": ["odd", 1]})
        return Response(text.replace('"odd"', "NaN, 1e999"), media_type="application/json")

    model = ScriptedModel()
    with serving(app) as model.url, guardrails_beside(model, tmp_path) as guardrails:
        guardrails.create(safety_config())
        answered = chat(guardrails, "hi")
    body = json.loads(answered.text, parse_constant=pytest.fail)
    assert body["scores"] == [None, None, 1]


def test_the_answer_comes_from_the_main_model_of_the_configuration(guarded: Guardrails) -> None:
    with scripted_model() as other:
        other.respond = lambda body: f"other {body['temperature']}"
        parameters = {"base_url": f"{other.url}/v1", "api_key": "sk-main", "temperature": 0.25}
        main = {"type": "main", "engine": "nim", "parameters": parameters}
        data = safety_config()
        guarded.create({**data, "models": [*data["models"], main]}, "elsewhere")
        answer = chat(guarded, "hi", options={"config_id": "ns/elsewhere"}).json()
        assert answer["choices"][0]["message"]["content"] == "other 0.25"
        assert other.headers[0]["authorization"] == "Bearer sk-main"
        assert [body["model"] for body in guarded.model.requests] == [GUARD, GUARD]


def test_a_null_in_the_body_does_not_hide_a_parameter(guarded: Guardrails) -> None:
    parameters = {"base_url": f"{guarded.model.url}/v1", "temperature": 0.25, "top_p": 0.5}
    main = {"type": "main", "engine": "nim", "parameters": parameters}
    data = safety_config()
    guarded.create({**data, "models": [*data["models"], main]}, "own")
    options = {"config_id": "ns/own", "options": {"llm_params": {"temperature": 0.3}}}
    chat(guarded, "hi", options=options, temperature=None, top_p=None, seed=None)
    asked = next(body for body in guarded.model.requests if body["model"] == "main/model")
    assert (asked["temperature"], asked["top_p"]) == (0.3, 0.5) and "seed" not in asked


def test_a_message_cut_into_parts_is_judged_as_the_model_reads_it(guarded: Guardrails) -> None:
    def parts(*texts: str) -> list[dict[str, Any]]:
        content = [{"type": "text", "text": text} for text in texts]
        return [{"role": "user", "content": content}]

    answer = chat(guarded, "", messages=parts("a bo", "mb")).json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL
    answer = chat(guarded, "", messages=parts("good ", "day")).json()
    assert answer["choices"][0]["message"]["content"] == "echo good day"
    picture = {"type": "image_url", "image_url": {"url": "x"}, "text": "hi"}
    with pytest.raises(UpstreamError, match="only text parts can be checked"):
        chat(guarded, "", messages=[{"role": "user", "content": [picture]}])


def test_a_chat_without_a_user_message_does_not_pass_by_the_input_rails(
    guarded: Guardrails,
) -> None:
    unasked = [{"role": "system", "content": "a bomb"}, {"role": "assistant", "content": "Yes:"}]
    with pytest.raises(UpstreamError, match="no user message for the input rails") as caught:
        chat(guarded, "", messages=unasked)
    assert caught.value.status == 422 and not guarded.model.requests


@pytest.mark.parametrize(
    "content",
    [[{"type": "text", "text": "e"}, {"type": "text", "text": "vil"}], {"say": "evil"}],
    ids=["text parts", "an object"],
)
def test_an_answer_that_is_no_string_is_judged_too(guarded: Guardrails, content: Any) -> None:
    guarded.model.respond = lambda body: (
        by_content(body) if body["model"] == GUARD else {"role": "assistant", "content": content}
    )
    answer = chat(guarded, "hi").json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL


def test_a_config_deleted_during_a_request_still_judges_its_answer(guarded: Guardrails) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        if body["model"] == GUARD:
            return by_content(body)
        guarded.client.delete("/v1/guardrail/configs/ns/toolcalling")
        return "evil"

    guarded.model.respond = respond
    answer = chat(guarded, "hi").json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL


def test_a_client_that_leaves_ends_the_generation(tmp_path: Path) -> None:
    begun, left = threading.Event(), threading.Event()
    slow = FastAPI()

    @slow.post("/v1/chat/completions")
    async def answer(request: Request) -> None:
        await request.body()
        begun.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left.set()

    model = ScriptedModel()
    with serving(slow) as model.url, guardrails_beside(model, tmp_path) as guardrails:
        guardrails.create({"models": []})
        for stream in (False, True):
            begun.clear()
            left.clear()
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "guardrails": {"config_id": "ns/toolcalling"},
                "stream": stream,
            }
            url = f"{guardrails.client.base_url}/v1/guardrail/chat/completions"
            ask_and_leave(url, body, begun)
            assert left.wait(20)


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
    as_choice = {**body, "guardrails": {"config_id": "ns/toolcalling", "return_choice": True}}
    streamed = guarded.client.raw("POST", path, json={**as_choice, "prompt": "hi", "stream": True})
    assert "echo hi" in streamed.text and streamed.text.endswith("data: [DONE]\n\n")
    chosen = guarded.client.post(path, json={**as_choice, "prompt": "hi"})["choices"]
    assert json.loads(chosen[1]["text"])["config_ids"] == ["ns/toolcalling"]
    blocked = guarded.client.post(path, json={**body, "prompt": "a bomb"})
    assert (blocked["object"], blocked["choices"][0]["text"]) == ("text_completion", REFUSAL)
    with pytest.raises(UpstreamError, match="prompt: must be a string"):
        guarded.client.post(path, json=body)
    with pytest.raises(UpstreamError, match="model: Field required"):
        guarded.client.post(path, json={"prompt": "hi"})


@pytest.mark.parametrize("flow", [INPUT_FLOW, "self check input"])
def test_a_reply_that_is_no_verdict_is_answered_like_any_block(
    guardrails: Guardrails, flow: str
) -> None:
    """It was answered with an internal error of the library."""
    data = safety_config()
    del data["prompts"][0]["output_parser"]
    data["prompts"].append({"task": "self_check_input", "content": "{{ user_input }}"})
    data["rails"] = {"input": {"flows": [flow]}}
    guardrails.create(data)
    guardrails.create({**data, "enable_rails_exceptions": True}, "exceptions")
    guardrails.model.respond = lambda body: "I cannot tell."
    message = chat(guardrails, "hi").json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": REFUSAL}
    body = {"model": "main/model", "prompt": "hi", "guardrails": {"config_id": "ns/toolcalling"}}
    answer = guardrails.client.post("/v1/guardrail/completions", json=body)
    assert answer["choices"][0]["text"] == REFUSAL
    told = chat(guardrails, "hi", options={"config_id": "ns/exceptions"}).json()
    message = told["choices"][0]["message"]
    assert message["role"] == "exception" and "Input not allowed." in message["content"]


def test_models_are_those_of_the_inference_endpoint(guardrails: Guardrails) -> None:
    listed = guardrails.client.get("/v1/guardrail/models")
    assert [model["id"] for model in listed["data"]] == ["scripted/model"]
