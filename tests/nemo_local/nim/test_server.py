"""NIM as clients see it: the openai client and bare HTTP against a running server."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from nemo_local.core.client import Client, UpstreamError
from nemo_local.settings import Settings
from tests.conftest import free_port
from tests.running_nim import MODEL, OTHER, eventually, make_models_dir, running_nim

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
            "required": ["a", "b"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("nim")
    return Settings.from_environment(
        {},
        home=folder / "home",
        port=free_port(),
        nim_port=free_port(),
        models_dir=make_models_dir(folder / "models"),
        threads=1,
    )


@pytest.fixture(scope="module")
def nim(settings: Settings) -> Iterator[Client]:
    with running_nim(settings) as client:
        yield client


@pytest.fixture(scope="module")
def openai(settings: Settings, nim: Client) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{settings.nim_url}/v1", api_key="None", max_retries=0) as client:
        yield client


def refused(nim: Client, path: str = "/v1/chat/completions", **body: Any) -> tuple[int, dict]:
    """Status and body of a refusal."""
    with pytest.raises(UpstreamError) as caught:
        nim.post(path, json={"model": MODEL, "messages": HELLO, "max_tokens": 4, **body})
    return caught.value.status, caught.value.response_body


def test_models_are_listed_with_who_answers(nim: Client, openai: Any) -> None:
    listed = {model.id: model for model in openai.models.list()}
    assert {MODEL, OTHER} <= set(listed)
    model = nim.get(f"/v1/models/{MODEL}")
    assert (model["root"], model["parent"], model["max_model_len"]) == (MODEL, None, 512)
    assert (model["answered_by"], model["stand_in"]) == (MODEL, False)
    assert model["permission"][0]["object"] == "model_permission"
    assert openai.models.retrieve(OTHER).owned_by == "system"


def test_health_version_metadata_and_metrics(nim: Client) -> None:
    assert nim.get("/v1/health/live")["message"] == "Service is live."
    assert nim.get("/v1/health/ready/")["object"] == "health.response"
    assert nim.get("/v1/version")["api"] == "1.0"
    assert MODEL in nim.get("/v1/metadata")["assetInfo"]
    nim.post("/v1/completions", json={"model": MODEL, "prompt": "a", "max_tokens": 2})
    ended = 'request_success_total{finished_reason="length"}'
    eventually(lambda: ended in _metrics(nim), "the reply is counted")
    eventually(lambda: "gpu_cache_usage_perc 0.0" in _metrics(nim), "the cache is empty")
    assert "num_requests_running 0" in _metrics(nim)
    assert "generation_tokens_total" in nim.raw("GET", "/metrics").text


def test_a_chat_reply_has_the_contracts_shape(nim: Client) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 5, "temperature": 0, "vision": {}}
    reply = nim.post("/v1/chat/completions", json=body)
    assert reply["id"].startswith("chatcmpl-") and reply["object"] == "chat.completion"
    choice = reply["choices"][0]
    assert choice["message"].keys() == {"role", "content"} and choice["logprobs"] is None
    assert choice["finish_reason"] == "length" and choice["stop_reason"] is None
    used = reply["usage"]
    assert used["completion_tokens"] == 5
    assert used["total_tokens"] == used["prompt_tokens"] + 5
    again = nim.post("/v1/chat/completions", json={**body, "tools": [], "tool_choice": None})
    assert again["choices"][0]["message"] == choice["message"]


def test_choices_seeds_and_logprobs(openai: Any) -> None:
    def ask(seed: int) -> Any:
        return openai.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=8, n=3, seed=seed, logprobs=True,
            top_logprobs=2,
        )  # fmt: skip

    first, again, other = ask(1), ask(1), ask(9)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts != [choice.message.content for choice in other.choices]
    assert len(set(texts)) > 1 and [choice.index for choice in first.choices] == [0, 1, 2]
    assert first.usage.completion_tokens == sum(len(c.logprobs.content) for c in first.choices)
    token = first.choices[0].logprobs.content[0]
    assert token.logprob < 0 and len(token.top_logprobs) == 2
    assert bytes(token.bytes).decode() == token.token


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_constrained_calls_are_valid_even_from_a_random_model(openai: Any, choice: Any) -> None:
    for seed in range(3):
        reply = openai.chat.completions.create(
            model=MODEL, messages=HELLO, tools=[ADD], tool_choice=choice, seed=seed,
            parallel_tool_calls=False, max_tokens=100,
        )  # fmt: skip
        message = reply.choices[0].message
        assert message.content is None and message.tool_calls is not None
        call = message.tool_calls[0]
        assert call.id.startswith("chatcmpl-tool-") and call.function.name == "add"
        arguments = json.loads(call.function.arguments)
        assert arguments["a"] in (True, False) and arguments["b"] in ("x", "y")
        assert call.function.arguments == json.dumps(arguments)
        wanted = "tool_calls" if choice == "required" else "stop"
        assert reply.choices[0].finish_reason == wanted


def test_a_stop_string_inside_a_call_leaves_the_same_streamed_and_whole(openai: Any) -> None:
    text = {"type": "object", "properties": {"x": {"enum": ["foo bar"]}}, "required": ["x"]}
    request = {
        "model": MODEL, "messages": HELLO, "tool_choice": "required", "stop": "bar",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": text}}],
    }  # fmt: skip
    whole = openai.chat.completions.create(**request).choices[0]
    streamed = [c.choices[0] for c in openai.chat.completions.create(**request, stream=True)]
    pieces = [call for choice in streamed for call in choice.delta.tool_calls or []]
    (call,) = whole.message.tool_calls
    assert whole.message.content is None and not any(c.delta.content for c in streamed)
    assert pieces[0].function.name == call.function.name == "f"
    assert "".join(p.function.arguments or "" for p in pieces) == call.function.arguments
    assert streamed[-1].finish_reason == whole.finish_reason == "stop"


def test_an_echo_is_the_prompt_to_the_letter(openai: Any) -> None:
    prompt = "a <|eot_id|> b"
    reply = openai.completions.create(model=MODEL, prompt=prompt, echo=True, max_tokens=1)
    assert reply.choices[0].text.startswith(prompt)


def test_auto_and_none_leave_a_random_model_to_its_words(openai: Any) -> None:
    for choice in ("auto", "none"):
        reply = openai.chat.completions.create(
            model=MODEL, messages=HELLO, tools=[ADD, TIME], tool_choice=choice, max_tokens=10,
            temperature=0,
        )  # fmt: skip
        assert reply.choices[0].message.tool_calls is None
        assert reply.choices[0].message.content


def test_tools_reach_the_prompt_unless_the_choice_is_none(openai: Any) -> None:
    def prompt_tokens(**options: Any) -> int:
        reply = openai.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1, **options)
        return reply.usage.prompt_tokens

    bare = prompt_tokens()
    assert prompt_tokens(tools=[ADD]) > bare
    assert prompt_tokens(tools=[ADD], tool_choice="none") == bare


def test_a_conversation_with_calls_and_results_is_answered(openai: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    reply = openai.chat.completions.create(
        model=MODEL,
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "3"},
        ],
        tools=[ADD],
        max_tokens=3,
    )
    assert reply.choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize(
    ("form", "check"),
    [
        pytest.param({"guided_choice": ["yes", "no"]}, {"yes", "no"}, id="top level"),
        pytest.param({"nvext": {"guided_regex": "[ab]"}}, {"a", "b"}, id="nvext"),
        pytest.param(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": {"enum": [1, 2]}},
                }
            },
            {"1", "2"},
            id="response format",
        ),
    ],
)
def test_guided_replies(openai: Any, form: dict, check: set) -> None:
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=40, extra_body=form
    )
    assert reply.choices[0].message.content in check


def test_streamed_text_equals_the_whole_reply(openai: Any) -> None:
    options: dict[str, Any] = {
        "model": MODEL, "messages": HELLO, "max_tokens": 20, "temperature": 0,
    }  # fmt: skip
    whole = openai.chat.completions.create(**options)
    chunks = list(
        openai.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert len({(c.id, c.created) for c in chunks}) == 1


def test_the_end_of_a_stream_is_sent_in_one_piece(settings: Settings, nim: Client) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 300, "ignore_eos": True}
    text = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}})
    connection = HTTPConnection(settings.host, settings.nim_port)
    with closing(connection):
        connection.request("POST", CHAT, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.chunked and response.fp is not None
        chunks = []
        while size := int(response.fp.readline(), 16):
            chunks.append(response.fp.read(size).decode())
            response.fp.readline()
    *_, last, usage, end, _ = chunks[-1].split("\n\n")
    assert '"finish_reason": "length"' in last and '"usage"' in usage and end == "data: [DONE]"
    # However far behind the server is, it sends some of 300 tokens before the last.
    assert len(chunks) > 2 and '"role": "assistant"' in chunks[0]


def test_streamed_calls_arrive_as_deltas(openai: Any) -> None:
    chunks = openai.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[ADD, TIME], tool_choice="required", stream=True,
        max_tokens=60, temperature=0, parallel_tool_calls=False,
    )  # fmt: skip
    names, arguments, ended = [], "", None
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
        assert not chunk.choices[0].delta.content
        ended = chunk.choices[0].finish_reason or ended
    assert len(names) == 1 and isinstance(json.loads(arguments), dict) and ended == "tool_calls"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_call_that_max_tokens_cuts_reads_alike_streamed_and_whole(
    openai: Any, choice: Any
) -> None:
    for most in (2, 12, 16, 20, 24):
        options: dict[str, Any] = {
            "model": MODEL, "messages": HELLO, "tools": [ADD], "tool_choice": choice,
            "max_tokens": most, "temperature": 0,
        }  # fmt: skip
        whole = openai.chat.completions.create(**options).choices[0]
        text, calls, ended = "", list[list[str]](), None
        for chunk in openai.chat.completions.create(**options, stream=True):
            delta = chunk.choices[0].delta
            text += delta.content or ""
            for call in delta.tool_calls or []:
                if call.function.name:
                    calls.append([call.function.name, ""])
                calls[-1][1] += call.function.arguments or ""
            ended = chunk.choices[0].finish_reason or ended
        said = [[c.function.name, c.function.arguments] for c in whole.message.tool_calls or []]
        assert (whole.message.content or "", said) == (text, calls)
        assert ended == whole.finish_reason
        if said and not said[-1][1].endswith("}"):
            assert ended == "length"
    assert calls, "the last is long enough for a name"


def test_auto_streams_text_that_is_no_call(openai: Any) -> None:
    for guided, text in (("Hi there", "Hi there"), ('{"a": 1}', '{"a": 1}')):
        chunks = openai.chat.completions.create(
            model=MODEL, messages=HELLO, tools=[TIME], stream=True, max_tokens=40,
            extra_body={"guided_choice": [guided]},
        )  # fmt: skip
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_a_reply_in_the_call_form_becomes_calls_under_auto(openai: Any) -> None:
    spoken = '{"name": "add", "parameters": {"a": true}}; {"name": "unlisted", "parameters": {}}'
    options: dict[str, Any] = {
        "model": MODEL, "messages": HELLO, "tools": [ADD], "max_tokens": 120,
        "extra_body": {"guided_choice": [spoken]},
    }  # fmt: skip
    choice = openai.chat.completions.create(**options).choices[0]
    calls = [(c.function.name, c.function.arguments) for c in choice.message.tool_calls]
    assert calls == [("add", '{"a": true}'), ("unlisted", "{}")]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    one = openai.chat.completions.create(**options, parallel_tool_calls=False).choices[0]
    assert len(one.message.tool_calls) == 1


def test_plain_completions(openai: Any) -> None:
    reply = openai.completions.create(
        model=MODEL, prompt=["What time", "Please add"], n=2, echo=True, logprobs=1, seed=1
    )
    assert len(reply.choices) == 4 and reply.object == "text_completion"
    assert reply.choices[3].text.startswith("Please add")
    logprobs = reply.choices[0].logprobs
    assert len(logprobs.tokens) == 16 and logprobs.text_offset[0] == len("What time")
    as_ids = openai.completions.create(model=MODEL, prompt=[7, 8, 9], max_tokens=3)
    assert as_ids.usage.prompt_tokens == 3
    pieces = openai.completions.create(
        model=MODEL, prompt="What time", max_tokens=6, temperature=0, stream=True
    )
    whole = openai.completions.create(model=MODEL, prompt="What time", max_tokens=6, temperature=0)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_an_unknown_model_is_404_with_near_names(openai: Any) -> None:
    with pytest.raises(NotFoundError, match="meta/llama-3.2-1b-instruct") as caught:
        openai.chat.completions.create(model="meta/llama-3.2-1b", messages=HELLO)
    assert caught.value.body["type"] == "NotFoundError"  # type: ignore[index]
    with pytest.raises(NotFoundError):
        openai.models.retrieve("nobody/knows@this")


def test_a_prompt_over_the_context_is_400(openai: Any) -> None:
    long = [{"role": "user", "content": "number " * 600}]
    with pytest.raises(BadRequestError, match="maximum context length is 512 tokens"):
        openai.chat.completions.create(model=MODEL, messages=long)


def test_max_tokens_beyond_the_context_are_cut(openai: Any) -> None:
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=5000, extra_body={"ignore_eos": True}
    )
    assert reply.usage.total_tokens == 512 and reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"temperature": -1}, "temperature", id="temperature"),
        pytest.param({"top_p": 0}, "top_p", id="top_p"),
        pytest.param({"n": 0}, "n must be", id="n"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="max_tokens"),
        pytest.param({"max_completion_tokens": 0}, "max_completion_tokens", id="newer name"),
        pytest.param({"stop": [""]}, "stop", id="empty stop"),
        pytest.param({"top_logprobs": 3}, "top_logprobs", id="alternatives without logprobs"),
        pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", id="too many"),
        pytest.param({"tool_choice": "auto"}, "tool_choice", id="choice without tools"),
        pytest.param({"messages": []}, "messages", id="no message"),
        pytest.param({"guided_regex": "["}, "regex", id="bad expression"),
        pytest.param({"guided_regex": "a", "guided_choice": ["b"]}, "one form", id="two guides"),
        pytest.param(
            {"tools": [ADD], "tool_choice": "required", "guided_regex": "a"}, "one form", id="both"
        ),
        pytest.param({"response_format": {"type": "json_schema"}}, "schema", id="no schema"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "image_url",
            id="image",
        ),
    ],
)
def test_values_that_make_no_sense_are_400_by_name(nim: Client, body: dict, message: str) -> None:
    status, answer = refused(nim, **body)
    assert (status, answer["code"], answer["type"]) == (400, 400, "BadRequestError")
    assert message in answer["message"] and answer["object"] == "error"


def test_a_mistyped_field_is_422_with_its_path(nim: Client) -> None:
    status, answer = refused(nim, messages="Hello")
    assert status == 422 and answer["detail"][0]["loc"] == ["body", "messages"]


def test_abilities_without_a_model_are_404(nim: Client) -> None:
    for path in ("/v1/embeddings", "/v1/classify"):
        assert refused(nim, path, model="nvidia/some-embedder", input="a")[0] == 404
        status, answer = refused(nim, path, input="a")
        assert status == 404 and "does not support" in answer["message"]


def test_a_client_that_hangs_up_stops_the_writing(settings: Settings, nim: Client) -> None:
    for stream in (False, True):
        body = json.dumps(
            {
                "model": MODEL, "messages": HELLO, "ignore_eos": True, "stream": stream, "n": 16,
            }
        ).encode()  # fmt: skip
        aborted = _aborted(nim)
        with socket.create_connection((settings.host, settings.nim_port)) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: nim\r\n"
                b"Content-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            eventually(lambda: "num_requests_running 16" in _metrics(nim), "writing began")
        eventually(lambda count=aborted: _aborted(nim) > count, "writing was given up")
        eventually(lambda: "num_requests_running 0" in _metrics(nim), "nothing is written")


def _metrics(nim: Client) -> str:
    return nim.raw("GET", "/v1/metrics").text


def _aborted(nim: Client) -> int:
    lines = [x for x in _metrics(nim).splitlines() if 'finished_reason="abort"' in x]
    return int(lines[0].split()[-1]) if lines else 0


def test_many_clients_at_once_each_get_their_own_reply(openai: Any) -> None:
    prompts = [f"Please add the two numbers {i} and {i * i}." for i in range(24)]

    def ask(prompt: str) -> str:
        messages: Any = [{"role": "user", "content": prompt}]
        reply = openai.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=15, temperature=0
        )
        return reply.choices[0].message.content or ""

    alone = [ask(prompt) for prompt in prompts]
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i, p=p: together.update({i: ask(p)}))
        for i, p in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(24)] == alone and len(set(alone)) > 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_ends_at_its_time_limit(tmp_path: Path, settings: Settings, stream: bool) -> None:
    hasty = replace(
        settings, home=tmp_path, port=free_port(), nim_port=free_port(), request_timeout_s=1e-9
    )
    with running_nim(hasty) as client:
        body = {"model": MODEL, "messages": HELLO, "stream": stream}
        if stream:
            text = client.raw("POST", "/v1/chat/completions", json=body).text
            assert '"code": 504' in text and text.endswith("data: [DONE]\n\n")
            return
        with pytest.raises(UpstreamError) as caught:
            client.post("/v1/chat/completions", json=body)
    assert caught.value.status == 504
    assert "NEMO_LOCAL_REQUEST_TIMEOUT" in caught.value.response_body["message"]


def test_models_take_turns_in_memory_that_holds_one_of_them(
    tmp_path: Path, settings: Settings
) -> None:
    small = replace(
        settings, home=tmp_path, port=free_port(), nim_port=free_port(), nim_memory_mb=0.2
    )
    with running_nim(small) as client:
        body = {"messages": HELLO, "max_tokens": 5, "temperature": 0}
        texts = [
            client.post("/v1/chat/completions", json={"model": model, **body})["choices"][0]
            for model in (MODEL, OTHER, MODEL)
        ]
        assert {MODEL, OTHER} <= {m["id"] for m in client.get("/v1/models")["data"]}
    assert texts[0] == texts[2] != texts[1]


def test_a_token_is_demanded_when_one_is_set(tmp_path: Path, settings: Settings) -> None:
    guarded = Settings.from_environment(
        {},
        home=tmp_path,
        port=free_port(),
        nim_port=free_port(),
        models_dir=settings.models_dir,
        token="secret",
    )
    with running_nim(guarded) as client:
        assert client.get("/v1/models")["data"]
        stranger = Client(guarded.nim_url)
        with pytest.raises(UpstreamError) as caught:
            stranger.get("/v1/models")
        stranger.close()
    assert caught.value.status == 401
