"""Tool calls as clients see them, whole and streamed."""

import json
from typing import Any

import pytest

from nemo_local.core.client import Client
from tests.running_nim import ADD, CHAT, HELLO, MODEL, TIME


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


def test_a_response_format_is_about_text_and_leaves_required_calls_alone(openai: Any) -> None:
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[ADD], tool_choice="required", max_tokens=100,
        response_format={"type": "json_object"}, parallel_tool_calls=False,
    )  # fmt: skip
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == "add"


def test_a_tool_in_the_words_of_python_can_be_called(openai: Any) -> None:
    """As lists of tools have it that were drawn from its functions, with keywords that say null."""
    numbers = {"type": "tuple", "items": {"type": "float"}, "maxItems": 2, "enum": None}
    limit = {"type": "integer", "minimum": 0.5, "maximum": 2**64, "multipleOf": 1}
    parameters = {
        "type": ["dict", "null"], "properties": {"at": numbers, "most": limit, "old": False},
        "required": ["at", "most"],
    }  # fmt: skip
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, tool_choice="required", max_tokens=200,
        tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}],
    )  # fmt: skip
    for one in reply.choices[0].message.tool_calls:
        assert one.function.arguments.startswith('{"at": [')


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


@pytest.mark.parametrize(
    "arguments", ["{}", r'{"a": "\ud83d"}'], ids=["no arguments", "half a surrogate"]
)
def test_a_conversation_s_calls_and_their_results_reach_the_prompt(
    openai: Any, arguments: str
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    conversation = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]
    told = [
        openai.chat.completions.create(
            model=MODEL, messages=conversation[:count], tools=[ADD], max_tokens=1
        ).usage.prompt_tokens
        for count in (1, 2, 3)
    ]
    assert len(HELLO) == 1 and told[0] < told[1] < told[2]


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


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_whose_arguments_no_json_can_say_is_text(nim: Client, stream: bool) -> None:
    text = '{"name": "time", "parameters": {"a": 1e999}}'
    body = {"model": MODEL, "messages": HELLO, "tools": [TIME], "guided_choice": [text]}
    reply = nim.raw("POST", CHAT, json={**body, "max_tokens": 99, "stream": stream}).text
    if stream:
        *events, end, _ = reply.split("\n\n")
        assert end == "data: [DONE]"
        deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in events]
        assert "".join(delta.get("content") or "" for delta in deltas) == text
    else:
        assert json.loads(reply)["choices"][0]["message"]["content"] == text


def test_a_key_that_is_written_twice_stands_twice_streamed_and_whole(openai: Any) -> None:
    twice = {"type": "object", "patternProperties": {"^b$": {"enum": [1]}}, "minProperties": 2,
             "maxProperties": 2, "additionalProperties": False}  # fmt: skip
    request = {
        "model": MODEL, "messages": HELLO, "tool_choice": "required", "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": twice}}],
    }  # fmt: skip
    (call,) = openai.chat.completions.create(**request).choices[0].message.tool_calls
    chunks = openai.chat.completions.create(**request, stream=True)
    pieces = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert "".join(piece.function.arguments or "" for piece in pieces) == '{"b": 1, "b": 1}'
    assert call.function.arguments == '{"b": 1, "b": 1}'
