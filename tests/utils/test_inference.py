"""Replies as the notebooks use them."""

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessage

from tests.scripted_model import completion
from utils.errors import TimedOut
from utils.inference import (
    ServedModel,
    ask,
    calls_of,
    served_models,
    turn_of,
    wait_until_served,
)


def reply(content: str | None, *arguments: str) -> ChatCompletionMessage:
    calls = [
        {"id": f"call-{i}", "type": "function", "function": {"name": "add", "arguments": text}}
        for i, text in enumerate(arguments)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": calls or None}
    return ChatCompletionMessage.model_validate(message)


def test_calls_have_their_arguments_as_objects() -> None:
    assert calls_of(reply(None, '{"a": 1}', "")) == [
        {"id": "call-0", "name": "add", "arguments": {"a": 1}},
        {"id": "call-1", "name": "add", "arguments": {}},
    ]
    assert calls_of(reply("four")) == []


def test_a_call_that_max_tokens_cut_ends_no_notebook() -> None:
    """The barely trained model of a smoke run wrote an argument until it was stopped."""
    cut = reply(None, '{"a": 1}', '{"a": "and on and')
    assert [call["id"] for call in calls_of(cut)] == ["call-0"]
    assert [call["id"] for call in turn_of(cut)["tool_calls"]] == ["call-0"]
    assert calls_of(reply(None, '{"a": ')) == []
    assert turn_of(reply(None, '{"a": ')) == {"role": "assistant", "content": ""}


def test_a_list_of_models_says_who_answers_and_on_top_of_what() -> None:
    listed = [
        {"id": "meta/m", "object": "model", "answered_by": "pocket"},
        {"id": "ns/a@v1", "object": "model", "parent": "meta/m"},
    ]
    client = OpenAI(
        base_url="http://scripted/v1",
        api_key="none",
        http_client=httpx.Client(
            transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"data": listed}))
        ),
    )
    assert served_models(client) == [
        ServedModel("meta/m", None, "pocket"),
        ServedModel("ns/a@v1", "meta/m", "ns/a@v1"),
    ]


def test_an_adapter_that_is_never_served_is_told_with_the_way_out() -> None:
    client = OpenAI(
        base_url="http://scripted/v1",
        api_key="none",
        http_client=httpx.Client(
            transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"data": []}))
        ),
    )
    with pytest.raises(
        TimedOut, match="waiting for NIM to serve ns/a@v1 after .* others now, train again"
    ):
        wait_until_served(client, "ns/a@v1", timeout_s=0)


def test_a_reply_goes_on_as_a_turn_of_the_conversation() -> None:
    assert turn_of(reply("four")) == {"role": "assistant", "content": "four"}
    assert turn_of(reply(None, '{"a": 1}')) == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call-0",
                "type": "function",
                "function": {"name": "add", "arguments": '{"a": 1}'},
            }
        ],
    }


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"max_tokens": 256}),
        ({"max_tokens": 5, "tool_choice": "required"}, {"max_tokens": 5}),
        ({"tools": [{"type": "function"}]}, {"max_tokens": 256, "tool_choice": "auto"}),
    ],
    ids=["defaults", "no tools to choose from", "tools"],
)
def test_the_likeliest_reply_is_asked_for(options: dict[str, Any], sent: dict[str, Any]) -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json=completion(asked[-1], "four"))

    http = httpx.Client(transport=httpx.MockTransport(answer))
    client = OpenAI(base_url="http://scripted/v1", api_key="none", http_client=http)
    messages = [{"role": "user", "content": "2 + 2?"}]
    assert ask(client, "m", messages, **options).content == "four"
    tools = {"tools": options["tools"]} if "tools" in options else {}
    assert asked == [{"model": "m", "messages": messages, "temperature": 0, **tools, **sent}]
