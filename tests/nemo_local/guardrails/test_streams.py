"""Guarded streams: as they are written where nothing judges them, judged where something does."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from nemo_local.core.client import UpstreamError
from nemo_local.guardrails.streams import begun
from tests.nemo_local.guardrails.conftest import (
    GUARD,
    SAFE,
    Guardrails,
    by_content,
    guardrails_beside,
    safety_config,
)
from tests.scripted_model import Reply, ScriptedModel, completion, serving

REFUSAL = "I'm sorry, I can't respond to that."


def events(guardrails: Guardrails, text: str, **fields: Any) -> list[dict[str, Any]]:
    """What a guarded chat streams before its `[DONE]`."""
    body = {
        "model": "main/model",
        "messages": [{"role": "user", "content": text}],
        "guardrails": {"config_id": "ns/toolcalling"},
        "stream": True,
        **fields,
    }
    answer = guardrails.client.raw("POST", "/v1/guardrail/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *parts, last = answer.text.strip().split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def said(parts: list[dict[str, Any]]) -> list[str]:
    """The texts of a stream, one a chunk."""
    deltas = [choice["delta"] for part in parts for choice in part.get("choices", [])]
    return [delta["content"] for delta in deltas if delta.get("content")]


def says(guardrails: Guardrails, answer: Reply) -> None:
    """Let the main model answer this."""
    guardrails.model.respond = lambda body: by_content(body) if body["model"] == GUARD else answer


def with_streaming(**settings: Any) -> dict[str, Any]:
    """Content safety on both sides, the answer judged while it is written."""
    data = safety_config()
    data["rails"]["output"]["streaming"] = {"enabled": True, **settings}
    return data


def test_a_stream_that_no_rail_judges_comes_as_the_model_writes_it(guardrails: Guardrails) -> None:
    says(guardrails, "one two three")
    rails = {"input": safety_config()["rails"]["input"]}
    guardrails.create(safety_config(rails=rails))
    parts = events(guardrails, "hi", stream_options={"include_usage": True})
    assert said(parts) == ["one ", "two ", "three"]
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["total_tokens"] == 7
    assert said(events(guardrails, "a bomb")) == [REFUSAL]


def test_a_stream_that_a_rail_judges_comes_once_it_was_judged(guardrails: Guardrails) -> None:
    says(guardrails, "one two three")
    guardrails.create(safety_config())
    parts = events(guardrails, "hi", stream_options={"include_usage": True})
    assert said(parts) == ["one two three"]
    assert parts[1]["choices"][0]["finish_reason"] == "stop"
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["total_tokens"] == 7
    asked = next(body for body in guardrails.model.requests if body["model"] == "main/model")
    assert "stream" not in asked and "stream_options" not in asked
    says(guardrails, "evil")
    assert said(events(guardrails, "a bomb")) == said(events(guardrails, "hi")) == [REFUSAL]


def test_a_stream_whose_question_is_blocked_has_its_usage(guardrails: Guardrails) -> None:
    guardrails.create(safety_config())
    parts = events(guardrails, "a bomb", stream_options={"include_usage": True})
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["total_tokens"] == 0


def test_a_stream_judged_while_it_is_written_ends_at_the_block(guardrails: Guardrails) -> None:
    says(guardrails, "one two three evil five six")
    guardrails.create(with_streaming(chunk_size=2, context_size=1, stream_first=False))
    parts = events(guardrails, "hi")
    assert said(parts) == ["one ", "two "]
    assert parts[-1] == {
        "error": {
            "message": "Blocked by content safety check output $model=content_safety rails.",
            "type": "guardrails_violation",
            "param": "content safety check output $model=content_safety",
            "code": "content_blocked",
        }
    }
    says(guardrails, "one two three")
    assert said(events(guardrails, "hi")) == ["one ", "two ", "three"]


def test_a_streaming_setting_that_nobody_knows_does_no_harm(guardrails: Guardrails) -> None:
    says(guardrails, "one two")
    guardrails.create(with_streaming(chunk_size=1, judge="x"))
    assert said(events(guardrails, "hi")) == ["one ", "two"]


def test_with_stream_first_text_is_sent_before_it_is_judged(guardrails: Guardrails) -> None:
    says(guardrails, "one two three evil five six")
    guardrails.create(with_streaming(chunk_size=2, context_size=1))
    parts = events(guardrails, "hi")
    assert said(parts) == ["one ", "two ", "three ", "evil "]
    assert parts[-1]["error"]["code"] == "content_blocked"


def test_what_spans_two_pieces_is_judged_with_its_context(guardrails: Guardrails) -> None:
    guardrails.model.respond = lambda body: (
        by_content(json.loads(json.dumps(body).replace("five six", "evil")))
        if body["model"] == GUARD
        else "one five six seven"
    )
    guardrails.create(with_streaming(chunk_size=2, context_size=1))
    assert events(guardrails, "hi")[-1]["error"]["code"] == "content_blocked"


@contextlib.contextmanager
def answering(data: dict[str, Any], answer: Callable[[], Any]) -> Iterator[Guardrails]:
    """Guardrails beside a main model that answers exactly this; its guard passes."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    @app.post("/v1/completions")
    def answered(body: dict[str, Any]) -> Any:
        return completion(body, SAFE) if body["model"] == GUARD else answer()

    model = ScriptedModel()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(app) as model.url,
        guardrails_beside(model, Path(folder)) as guardrails,
    ):
        guardrails.create(data)
        yield guardrails


def writing(data: dict[str, Any], *parts: str) -> AbstractContextManager[Guardrails]:
    """Guardrails beside a main model that streams these parts as they are; its guard passes."""
    stream = partial(StreamingResponse, media_type="text/event-stream")
    return answering(data, lambda: stream(iter(parts)))


@pytest.mark.parametrize("first", [True, False], ids=["sent first", "judged first"])
def test_a_judged_stream_may_say_a_line_separator(first: bool) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "one\u2028two\x85 😀"}}]}
    raw = json.dumps(chunk, ensure_ascii=False)
    parts = [f"data: {raw[:30]}", f"{raw[30:]}\r\n\r\n", "data: [DONE]\n\n"]
    with writing(with_streaming(stream_first=first), *parts) as guardrails:
        assert events(guardrails, "hi") == [chunk]


UNGUARDED = safety_config(rails={"input": safety_config()["rails"]["input"]})
BROKEN = '{"index": 0, "delta": {"content": "one"}, "logprobs": [NaN, -Infinity, 1]}'


@pytest.mark.parametrize("data", [with_streaming(), UNGUARDED], ids=["judged", "not judged"])
def test_a_number_that_json_does_not_have_is_null_in_a_stream(data: dict[str, Any]) -> None:
    raw = f'data: {{"choices": [{BROKEN}]}}\n\n'
    with writing(data, raw[:60], raw[60:], "data: [DONE]\n\n") as guardrails:
        (chunk,) = events(guardrails, "hi")
    choice = {"index": 0, "delta": {"content": "one"}, "logprobs": [None, None, 1]}
    assert chunk == {"choices": [choice]}


def test_text_parts_do_not_end_a_judged_stream() -> None:
    parts = [{"type": "text", "text": "one"}]
    chunk = {"choices": [{"index": 0, "delta": {"content": parts}}]}
    written = [f"data: {json.dumps(chunk)}\n\n", "data: [DONE]\n\n"]
    with writing(with_streaming(), *written) as guardrails:
        assert events(guardrails, "hi") == [chunk]


def chunk_of(content: str, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return {"choices": [choice]}


@pytest.mark.parametrize(
    "data", [with_streaming(chunk_size=1), UNGUARDED], ids=["judged", "not judged"]
)
@pytest.mark.parametrize("said_last", ["two", '"finish_reason": "stop"'], ids=["a word", "a quote"])
def test_a_stream_that_the_model_breaks_off_does_not_look_finished(
    data: dict[str, Any], said_last: str
) -> None:
    chunks = [chunk_of("one "), chunk_of(said_last)]
    written = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    with writing(data, *written) as guardrails:
        *sent, last = events(guardrails, "hi")
    assert sent == chunks
    message = "the model's stream broke off before its answer ended"
    assert last == {"error": {"message": message, "type": "upstream_error"}}


def test_a_stream_that_breaks_off_before_anything_is_sent_is_a_502() -> None:
    written = f"data: {json.dumps(chunk_of('one'))}\n\n"
    with writing(with_streaming(stream_first=False), written) as guardrails:
        with pytest.raises(UpstreamError, match="broke off before its answer ended") as caught:
            events(guardrails, "hi")
    assert caught.value.status == 502


def test_a_stream_that_says_why_it_ends_needs_no_done() -> None:
    chunk = chunk_of("one", "stop")
    raw = f"data: {json.dumps(chunk)}"
    with writing(with_streaming(), raw[:-20], raw[-20:]) as guardrails:
        assert events(guardrails, "hi") == [chunk]


@pytest.mark.parametrize("data", [with_streaming(), UNGUARDED], ids=["judged", "not judged"])
def test_a_page_in_place_of_a_stream_is_no_empty_stream(data: dict[str, Any]) -> None:
    with answering(data, lambda: HTMLResponse("<html>hello</html>")) as guardrails:
        with pytest.raises(UpstreamError, match="not a stream: '<html>hello") as caught:
            events(guardrails, "hi")
    assert caught.value.status == 502


def test_a_stream_that_was_judged_whole_keeps_the_logprobs() -> None:
    logprobs = {"content": [{"token": "hello", "logprob": -0.5}]}
    choice = {"message": {"content": "hello"}, "logprobs": logprobs}
    reply = {"choices": [{**choice, "finish_reason": "stop", "stop_reason": "."}]}
    with answering(safety_config(), lambda: reply) as guardrails:
        parts = events(guardrails, "hi", logprobs=True)
    assert [part["choices"][0] for part in parts] == [
        {
            "index": 0,
            "delta": {"content": "hello"},
            "logprobs": logprobs,
            "finish_reason": None,
        },
        {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "."},
    ]


@pytest.mark.parametrize(
    "part",
    [
        "data: {\n\n",
        "data: []\n\n",
        'data: {"choices": ["one"]}\n\n',
        'data: {"choices": [{"delta": "one"}]}\n\n',
    ],
    ids=["half", "list", "words", "a word as delta"],
)
def test_a_judged_stream_that_is_no_completion_is_told_as_that(part: str) -> None:
    with writing(with_streaming(), part) as guardrails, pytest.raises(UpstreamError) as caught:
        events(guardrails, "hi")
    assert caught.value.status == 502
    assert "the model's stream is not a completion" in str(caught.value.detail)


def test_a_reply_that_lacks_what_no_rail_needs_is_streamed() -> None:
    reply = {"choices": [{"message": {"content": "hello"}}]}
    with answering(safety_config(), lambda: reply) as guardrails:
        first, *_ = parts = events(guardrails, "hi")
        assert said(parts) == ["hello"]
        assert first["model"] == "main/model" and first["object"] == "chat.completion.chunk"
        assert first["id"].startswith("chatcmpl-") and first["choices"][0]["index"] == 0
        chosen = {"config_id": "ns/toolcalling", "return_choice": True}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "guardrails": chosen}
        answer = guardrails.client.post("/v1/guardrail/chat/completions", json=body)
        assert answer["choices"][1]["message"]["role"] == "guardrails_data"


def test_text_that_calls_itself_a_chat_is_streamed_as_text() -> None:
    reply = {"object": "chat.completion", "choices": [{"text": "hello"}]}
    with answering(safety_config(), lambda: reply) as guardrails:
        body = {
            "model": "main/model",
            "prompt": "hi",
            "stream": True,
            "guardrails": {"config_id": "ns/toolcalling"},
        }
        answer = guardrails.client.raw("POST", "/v1/guardrail/completions", json=body)
    first, *_, last = answer.text.strip().split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"] == "hello"
    assert last == "data: [DONE]"


@pytest.mark.parametrize(
    "choice",
    [{}, {"message": "hello"}, {"message": {"tool_calls": "f"}}, {"text": {}}, "hello"],
    ids=["nothing", "a word", "no calls", "no text", "no object"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_that_says_nothing_is_no_completion(choice: Any, stream: bool) -> None:
    with answering(safety_config(), lambda: {"choices": [choice]}) as guardrails:
        with pytest.raises(UpstreamError, match="the model's reply is not a completion") as caught:
            events(guardrails, "hi", stream=stream)
    assert caught.value.status == 502


def test_several_choices_are_judged_whole(guardrails: Guardrails) -> None:
    says(guardrails, "one two")
    guardrails.create(with_streaming(chunk_size=1))
    assert said(events(guardrails, "hi", n=2)) == ["one two"]


def test_a_model_that_refuses_a_stream_is_an_error_and_no_stream(guardrails: Guardrails) -> None:
    guardrails.create({"models": []})
    guardrails.model.respond = lambda body: 429
    with pytest.raises(UpstreamError) as caught:
        events(guardrails, "hi")
    assert caught.value.status == 429


def test_a_model_that_streams_nothing_is_an_empty_stream_and_no_500() -> None:
    async def nothing() -> AsyncGenerator[str]:
        for event in ():
            yield event

    async def sent() -> list[str]:
        return [event async for event in await begun(nothing())]

    assert asyncio.run(sent()) == []


def test_a_stream_that_is_a_word_is_refused(guardrails: Guardrails) -> None:
    guardrails.create({"models": []})
    with pytest.raises(UpstreamError, match="stream: must be true or false, not 'false'"):
        events(guardrails, "hi", stream="false")


@pytest.mark.parametrize("stream", [True, False])
def test_stream_options_that_are_a_word_are_refused(guardrails: Guardrails, stream: bool) -> None:
    guardrails.create({"models": []})
    with pytest.raises(UpstreamError, match="stream_options: must be an object"):
        events(guardrails, "hi", stream=stream, stream_options="usage")
